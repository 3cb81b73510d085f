"""Where the alerts and dashboards that are shipped lead, as an on-call engineer gets them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from agent_operator.manifests.alert_objects import Policy, groups_of
from slipway_monitoring.dashboards.reading import panels
from tests.charts import slipway
from tests.charts.operator import chart as operator_chart
from tests.support.charts import Manifest, every, values_of

POLICY = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "AlertPolicy",
    "metadata": {"name": "bot", "namespace": "shop", "uid": "u"},
    "spec": {"release": "bot", "thresholds": {"dailyBudgetUsd": 100}},
}


def runbook_links(base: str) -> dict[tuple[str, str], str]:
    """Address by who has the link and the alert's name: alerts of both charts and of the operator, and panels of dashboards."""
    ours = [f"monitoring.alerts.runbooksUrl={base}", "monitoring.alerts.enabled=true", "monitoring.dashboards.enabled=true"]
    promised = [
        "monitoring.alerts.thresholds.dailyBudgetUsd=100",
        "monitoring.alerts.objectives={availability: 0.99, latency: 0.99}",
    ]
    agent = slipway.manifests(values_of(*ours, *promised))
    operator = operator_chart.manifests(values_of(*ours))
    groups = groups_of(Policy.of(POLICY), runbooks=base)
    links: dict[tuple[str, str], str] = {}
    for who, rules in (("agent", _rules(agent)), ("operator", _rules(operator)), ("policy", _of_groups(groups))):
        links |= {(who, rule["alert"]): rule["annotations"]["runbook_url"] for rule in rules}
    for who, made in (("agent's dashboard", agent), ("operator's dashboard", operator)):
        links |= {(who, title.removeprefix("Runbook ")): url.replace("${runbooks}", base) for title, url in _of_panels(made)}
    return links


async def dead_links(client: httpx.AsyncClient, links: dict[tuple[str, str], str]) -> list[str]:
    """Links that do not open the page of their alert, as a browser follows them from a chat."""
    dead = []
    for (who, alert), url in links.items():
        answer = await client.get(url, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
        if answer.status_code != 200 or f"<h1>{alert}</h1>" not in answer.text:
            dead.append(f"{who}: {alert}: {url}: {answer.status_code}")
    return dead


def _rules(made: list[Manifest]) -> list[dict[str, Any]]:
    return [rule for each in every(made, "PrometheusRule") for rule in _of_groups(each["spec"]["groups"])]


def _of_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for group in groups for rule in group["rules"]]


def _of_panels(made: list[Manifest]) -> Iterator[tuple[str, str]]:
    for each in every(made, "ConfigMap"):
        for name, text in each["data"].items():
            if name.endswith(".json"):
                yield from (
                    (link["title"], link["url"]) for panel in panels(json.loads(text)) for link in panel.get("links") or ()
                )
