"""Values that the project hands out as examples are ones that the chart takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_service.metrics import Metrics
from tests.charts.slipway import CHART, manifests
from tests.support.charts import MINORS, check_with_api, every, one

K8S = CHART.parent.parent / "k8s"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader))


def examples() -> Iterator[tuple[str, dict[str, Any]]]:
    (production,) = documents(CHART / "values-production.yaml")
    yield "production", production
    (pooled,) = documents(K8S / "database/agent.values.yaml")
    yield "pooled", pooled
    (canary,) = documents(K8S / "rollouts/canary.values.yaml")
    yield "canary", canary


EXAMPLES = dict(examples())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_chart_takes_the_values(name: str) -> None:
    found = manifests(EXAMPLES[name])

    assert len(every(found, "Deployment")) == 1
    assert every(found, "StatefulSet") == [], "an example for production brings no evaluation database"


def test_for_production_every_secret_is_named() -> None:
    (deployment,) = every(manifests(EXAMPLES["production"]), "Deployment")

    assert "my-agent-slipway-auth" not in str(deployment)
    assert "my-agent-slipway-postgres" not in str(deployment)


def test_the_adapters_rule_serves_the_metric_that_the_autoscaler_asks_for() -> None:
    (values,) = documents(K8S / "custom-metrics/prometheus-adapter.values.yaml")
    (hpa,) = every(manifests({"autoscaling": {"enabled": True}}), "HorizontalPodAutoscaler")
    (rule,) = values["rules"]["custom"]
    names = {family.name for family in Metrics(models=(), version="", graph="", guardrail_rules=()).registry.collect()}

    assert rule["name"]["as"] == hpa["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert rule["seriesQuery"].partition("{")[0] in names


@pytest.mark.parametrize("minor", MINORS)
def test_the_api_takes_the_pooler(minor: str) -> None:
    check_with_api(documents(K8S / "database/pgbouncer.yaml"), minor)


def test_the_agent_and_its_policy_reach_the_pooler_by_its_pods_port() -> None:
    found = documents(K8S / "database/pgbouncer.yaml")
    (port,) = one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    page = (K8S / "database/README.md").read_text(encoding="utf-8")

    assert EXAMPLES["pooled"]["networkPolicy"]["postgresPort"] == port["containerPort"]
    assert f"listen_port = {port['containerPort']}" in one(found, "ConfigMap")["data"]["pgbouncer.ini"]
    volumes = one(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    secrets = {v["secret"]["secretName"] for v in volumes if "secret" in v} | {"agent-database", "pgbouncer-ca"}
    assert [name for name in secrets if f"| `{name}` |" not in page] == []


def test_kind_has_a_node_for_each_of_three_replicas() -> None:
    (cluster,) = documents(K8S / "kind/cluster.yaml")

    assert [node["role"] for node in cluster["nodes"]].count("worker") == 3
