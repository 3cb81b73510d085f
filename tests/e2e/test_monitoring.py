"""With the Prometheus operator in the cluster: a release's targets, rules and dashboards, and an alert that reaches a webhook."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e import webhook
from tests.e2e.agent import Agent
from tests.e2e.conftest import REPLICAS
from tests.e2e.measure import eventually
from tests.support.cluster import Namespace, prometheus_api, prometheus_query, require_api, wait_until
from tests.support.figures import Report
from tests.support.reader import Reader

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SCRAPED_SECONDS = 90
"""The operator writes the configuration, Prometheus reads it again and scrapes: 15 s were measured on an idle machine."""

MOUNTED_SECONDS = 180
"""Rules and receivers come by volumes, which a kubelet looks at each minute or so."""

ALERT = "AgentModelUnpriced"
"""Waits for nothing (no `for`), and the test graph's model really has no price."""

RUNBOOK = "docs/runbooks/agent-model-unpriced.md"

ROOT = Path(__file__).parent.parent.parent


def chosen(agent: Agent) -> str:
    return f'namespace="{agent.namespace.name}",job="{agent.release.name}"'


def test_every_replica_is_a_target_that_is_up(agent: Agent, report: Report) -> None:
    require_api("servicemonitors.monitoring.coreos.com")

    def targets() -> list[str] | None:
        up = [sample["metric"]["pod"] for sample in prometheus_query(f"up{{{chosen(agent)}}}") if sample["value"][1] == "1"]
        return up if {pod.name for pod in agent.serving()} <= {*up} else None

    up = wait_until("targets up", targets, seconds=SCRAPED_SECONDS)
    report(f"ServiceMonitor: {len(up)} targets up")

    assert len(up) >= REPLICAS
    assert prometheus_query(f"agent_build_info{{{chosen(agent)}}}")


def test_every_rule_of_the_release_is_loaded_and_healthy(agent: Agent, report: Report) -> None:
    require_api("prometheusrules.monitoring.coreos.com")
    groups = agent.namespace.get("prometheusrule", agent.fullname)["spec"]["groups"]
    wanted = {(group["name"], rule["alert"]) for group in groups for rule in group["rules"]}

    def evaluated() -> list[dict[str, Any]]:
        rules = running_rules(agent)
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_until("rules evaluated", evaluated, seconds=MOUNTED_SECONDS)
    report(f"PrometheusRule: {len(rules)} rules in {len(groups)} groups loaded and healthy")

    assert {(rule["group"], rule["name"]) for rule in rules} == wanted
    assert ALERT in {rule["name"] for rule in rules}
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []


def running_rules(agent: Agent) -> list[dict[str, Any]]:
    """Those that Prometheus runs from the file that the Prometheus operator made of the release's PrometheusRule."""
    file = f"/{agent.namespace.name}-{agent.fullname}-"
    groups = [group for group in prometheus_api("rules")["groups"] if file in group["file"]]
    return [{"lastError": "", **rule, "group": group["name"]} for group in groups for rule in group["rules"]]


def test_the_dashboards_are_labelled_for_grafana(agent: Agent, report: Report) -> None:
    found = agent.namespace.get("configmaps", "--selector=grafana_dashboard=1")
    dashboards = [json.loads(text) for each in found for text in each["data"].values()]
    report(f"dashboards: {len(dashboards)} ConfigMaps with grafana_dashboard=1")

    files = [*(ROOT / "charts/slipway/files/dashboards").glob("*.json")]
    assert {each["uid"] for each in dashboards} == {json.loads(file.read_bytes())["uid"] for file in files}
    assert all(each["panels"] for each in dashboards)


@pytest.fixture
def hook(agent: Agent) -> Iterator[Namespace]:
    """Where the webhook runs that the release's alerts are sent to."""
    require_api("alertmanagerconfigs.monitoring.coreos.com")
    space = agent.namespace
    made = [*webhook.manifests(space, instance=agent.release.name), route(agent)]
    space.apply(*made)
    try:
        space.wait_until_ready("stub", seconds=60)
        yield space
    finally:
        space.kubectl("delete", "--wait=false", *(f"{each['kind']}/{each['metadata']['name']}" for each in made))


async def test_an_alert_of_the_chart_reaches_a_webhook(agent: Agent, hook: Namespace, report: Report) -> None:
    counted = f"agent_unpriced_model_calls_total{{{chosen(agent)}}}"
    await eventually(lambda: {pod.name for pod in agent.serving()} <= pods(counted), SCRAPED_SECONDS)
    await eventually(lambda: running_rules(agent), MOUNTED_SECONDS)

    async with agent.client() as client:
        reader = await Reader(agent.urls, "id=unpriced words=1").run(client)
    assert reader.outcome == "completed"
    [alert, *_] = await eventually(lambda: webhook.received(hook, ALERT), MOUNTED_SECONDS)

    labels = {"namespace": hook.name, "job": agent.release.name, "severity": "warning"}
    assert alert["status"] == "firing"
    assert alert["labels"].items() >= labels.items()
    assert alert["annotations"]["runbook"] == RUNBOOK
    assert (ROOT / RUNBOOK).is_file()
    async with agent.client() as client:
        page = await client.get(f"{agent.doors[0]}{urlsplit(alert['annotations']['runbook_url']).path}")
    assert (page.status_code, f"<h1>{ALERT}</h1>" in page.text) == (200, True)
    report(f"alert: {ALERT} reached the webhook, with its labels, and its link opens the runbook")


def pods(series: str) -> set[str]:
    return {sample["metric"]["pod"] for sample in prometheus_query(series)}


def route(agent: Agent) -> dict[str, Any]:
    """What a team writes to have its release's alerts."""
    matchers = [{"name": "job", "matchType": "=", "value": agent.release.name}]
    return {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "AlertmanagerConfig",
        "metadata": {"name": "hook"},
        "spec": {
            "route": {
                "receiver": "hook",
                "groupBy": ["alertname"],
                "groupWait": "1s",
                "groupInterval": "5s",
                "matchers": matchers,
            },
            "receivers": [{"name": "hook", "webhookConfigs": [{"urlSecret": webhook.URL_SECRET}]}],
        },
    }
