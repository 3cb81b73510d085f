"""AlertPolicy with a real Prometheus operator, Prometheus and Alertmanager: from a threshold to a webhook."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e import webhook
from tests.e2e.operator import running_operator
from tests.support.cluster import Namespace, fresh_namespace, prometheus_api, prometheus_query, require_api, wait_until
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.xdist_group("operator-alertpolicy")]

RELEASE = "demo"
MADE = "main-alertpolicy"

QUIET = {"streamGapRatio": 1}
"""The stub loses 40 % of its reconnects: the default threshold fires from the start, and goes on for a while after a change."""

LOADED_SECONDS = 30
"""What an operator promises: from the change of an AlertPolicy to a rule that Prometheus runs, and a condition that says so."""


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    require_api("prometheusrules.monitoring.coreos.com")
    with fresh_namespace("e2e-policy") as space:
        space.apply(*webhook.manifests(space, instance=RELEASE), monitor())
        monitored = {"serviceMonitor": {"enabled": True, "interval": "5s"}}
        with running_operator(
            space, monitoring=monitored, rights={"secretNames": [webhook.URL_SECRET["name"]], "configMaps": True}
        ):
            space.wait_until_ready("stub", seconds=60)
            yield space


@pytest.fixture(scope="module")
def policy(namespace: Namespace) -> Namespace:
    """A policy whose rules Prometheus runs."""
    set_policy(namespace)
    wait_until("rules loaded", lambda: loaded(namespace), seconds=90)
    return namespace


def monitor() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "stub"},
        "spec": {
            "jobLabel": "app.kubernetes.io/instance",
            "selector": {"matchLabels": webhook.LABELS},
            "endpoints": [{"port": "ops", "interval": "5s"}],
        },
    }


def set_policy(namespace: Namespace, thresholds: Mapping[str, float] = QUIET, **spec: Any) -> None:
    namespace.apply(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "AlertPolicy",
            "metadata": {"name": "main"},
            "spec": {"release": RELEASE, "thresholds": {**QUIET, **thresholds}, **spec},
        }
    )


def condition(namespace: Namespace, type_: str) -> dict[str, Any]:
    """Of the policy's newest generation; empty before the operator has seen it."""
    found = namespace.get("alertpolicy", "main")
    conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", [])}
    condition = conditions.get(type_, {})
    return condition if condition.get("observedGeneration") == found["metadata"]["generation"] else {}


def loaded(namespace: Namespace) -> bool:
    return condition(namespace, "RulesLoaded").get("status") == "True"


def running_rule(namespace: Namespace, alert: str) -> str:
    """The expression that Prometheus runs."""
    group = f"{namespace.name}.main.slipway."
    rules = [rule for each in prometheus_api("rules")["groups"] if each["name"].startswith(group) for rule in each["rules"]]
    return next((str(rule["query"]) for rule in rules if rule["name"] == alert), "")


def test_a_changed_threshold_is_what_prometheus_runs_within_30_seconds(policy: Namespace, report: Report) -> None:
    began = time.monotonic()
    set_policy(policy, thresholds={"costUsdPerHour": 7})
    wait_until("the new rule", lambda: "> 7" in running_rule(policy, "AgentCostHigh"), seconds=90)
    runs = time.monotonic() - began
    wait_until("RulesLoaded", lambda: loaded(policy), seconds=90)
    says = time.monotonic() - began
    report(f"AlertPolicy: a new threshold ran in Prometheus after {runs:.0f} s, RulesLoaded=True after {says:.0f} s")

    assert says <= LOADED_SECONDS


def test_a_rule_that_was_deleted_by_hand_comes_back(policy: Namespace, report: Report) -> None:
    uid = policy.get("prometheusrule", MADE)["metadata"]["uid"]
    began = time.monotonic()
    policy.kubectl("delete", "prometheusrule", MADE)

    def restored() -> bool:
        found = policy.kubectl("get", "prometheusrule", MADE, "--ignore-not-found", "--output=jsonpath={.metadata.uid}")
        return found not in {"", uid}

    wait_until("the rule", restored, seconds=30, every=0.2)
    report(f"AlertPolicy: a deleted rule was back after {time.monotonic() - began:.0f} s")


def test_an_edit_by_hand_is_undone(policy: Namespace) -> None:
    patch = json.dumps([{"op": "replace", "path": "/spec/groups/0/rules/0/expr", "value": "vector(1)"}])
    policy.kubectl("patch", "prometheusrule", MADE, "--type=json", f"--patch={patch}")

    def repaired() -> bool:
        groups = policy.get("prometheusrule", MADE)["spec"]["groups"]
        return all(rule["expr"] != "vector(1)" for group in groups for rule in group["rules"])

    wait_until("the repair", repaired, seconds=30, every=0.2)
    assert "RulesUpdated" in policy.kubectl("get", "events", "--output=jsonpath={.items[*].reason}")


def test_metrics_that_the_release_does_not_have_are_named(policy: Namespace) -> None:
    found = wait_until("a reason", lambda: condition(policy, "MetricsExist"), seconds=30)

    assert (found["status"], found["reason"]) == ("False", "MetricsMissing")
    assert "agent_cost_usd_total" in found["message"]
    assert "agent_stream_resumes_total" not in found["message"]


def test_a_threshold_that_is_crossed_reaches_the_webhook(policy: Namespace, report: Report) -> None:
    receiver = {"webhook": {"urlSecret": webhook.URL_SECRET}, "groupWait": "1s", "groupInterval": "5s"}
    set_policy(policy, receiver=receiver)
    counted = f'agent_stream_resumes_total{{namespace="{policy.name}",result="gap"}} > 50'
    wait_until("50 gaps", lambda: prometheus_query(counted), seconds=90)
    assert not webhook.received(policy, "AgentStreamGaps")

    began = time.monotonic()
    set_policy(policy, thresholds={"streamGapRatio": 0.3}, receiver=receiver)
    [alert, *_] = wait_until("the alert", lambda: webhook.received(policy, "AgentStreamGaps"), seconds=120)
    report(f"AlertPolicy: a lowered threshold reached the webhook after {time.monotonic() - began:.0f} s")

    assert alert["labels"].items() >= {"namespace": policy.name, "job": RELEASE, "severity": "warning"}.items()
    firing = wait_until("Firing", lambda: condition(policy, "Firing").get("status") == "True", seconds=30)
    assert firing


def test_the_operators_own_metrics_are_scraped_with_the_objects_namespace(policy: Namespace) -> None:
    query = f'slipway_operator_condition{{namespace="{policy.name}",name="main",condition="RulesApplied"}} == 1'

    found = wait_until("the metric", lambda: prometheus_query(query), seconds=90)
    assert found[0]["metric"]["job"] == "slipway-operator"


@pytest.mark.parametrize(("verb", "resource"), [("list", "secrets"), ("get", "secrets"), ("delete", "pods")])
def test_it_may_not_do_what_it_has_no_business_with(policy: Namespace, verb: str, resource: str) -> None:
    account = f"--as=system:serviceaccount:{policy.name}:slipway-operator"
    command = ["kubectl", "--namespace", policy.name, "auth", "can-i", verb, resource, account]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "no"


def test_what_was_made_goes_with_the_policy(policy: Namespace) -> None:
    policy.kubectl("delete", "alertpolicy", "main", "--timeout=30s")

    wait_until("no rule", lambda: not policy.get("prometheusrules"), seconds=60)
