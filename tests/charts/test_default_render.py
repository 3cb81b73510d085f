"""The default render: a snapshot, equal each time, clean for GitOps, and within the restricted pod security standard.

An intended change of the snapshot: `UPDATE_SNAPSHOTS=1 .venv/bin/pytest tests/charts/test_default_render.py`.
"""

import os
import re
from pathlib import Path

import helm_python
import pytest

from agent_service.metrics import Metrics
from tests.charts.operator import chart as operator
from tests.charts.slipway import CASES, CHART, agent, made, manifests
from tests.support.charts import Values, every, merged, pod_specs, render_text, values_of

SNAPSHOTS = Path(__file__).parent / "snapshots"

DEFAULTS = (
    (CHART, values_of(), set[str]()),
    (operator.CHART, operator.ANYWHERE, {"templates/crds.yaml"}),  # of crds-source, which has a test of its own
)


@pytest.mark.parametrize(("chart", "values", "left_out"), DEFAULTS)
def test_the_default_render_is_the_snapshot(chart: Path, values: Values, left_out: set[str]) -> None:
    text, snapshot = default_text(chart, values, left_out), SNAPSHOTS / f"{chart.name}.yaml"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.write_text(text, encoding="utf-8")

    assert text == snapshot.read_text(encoding="utf-8")


def default_text(chart: Path, values: Values, left_out: set[str]) -> str:
    texts = {path: text.strip() for path, text in render_text(chart, values).items() if path not in left_out}
    joined = "".join(f"# {path}\n{text}\n---\n" for path, text in texts.items() if text)
    return re.sub(r"(slipway(?:-operator)?[-:]|version: \"|Slipway )\d+\.\d+\.\d+", r"\1VERSION", joined)


@pytest.mark.parametrize("case", CASES)
def test_two_renders_are_equal(case: str) -> None:
    values = merged(values_of("checkCRDs=false"), CASES[case])

    assert render_text(CHART, values) == render_text(CHART, values)


def test_without_a_cluster_no_secret_is_made_up() -> None:
    assert every(manifests(), "Secret") == []


def test_the_chart_passes_helms_strict_lint() -> None:
    report = helm_python.lint(CHART, {}, strict=True)

    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("case", CASES)
def test_pods_keep_to_the_restricted_standard_and_talk_to_no_api_server(case: str) -> None:
    for spec in pod_specs(manifests(CASES[case])):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]["memory"]
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_in_the_releases_namespace_and_carries_its_labels(case: str) -> None:
    for manifest in manifests(CASES[case]):
        if manifest["metadata"]["name"] in {"my-agent-map", "my-agent-text"}:
            continue  # extraObjects: the user's
        assert manifest["metadata"]["namespace"] == "agents"
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "slipway"
        assert labels["app.kubernetes.io/instance"] == "my-agent"
        assert labels["app.kubernetes.io/component"] in {"agent", "postgres", "test"}
        assert labels.keys() >= {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}


def test_no_secret_stands_in_the_values_of_a_pod() -> None:
    given = {e["name"]: e for e in agent()["containers"][0]["env"]}

    assert all("valueFrom" in given[name] for name in ("DATABASE_URL", "JWT_SECRET"))


@pytest.mark.parametrize(
    ("release", "fullname"),
    [
        ("my-agent", "my-agent-slipway"),
        ("slipway", "slipway"),
        ("team-slipway-2", "team-slipway-2"),
        ("x" * 34, "x" * 34 + "-slipway"),
        ("x" * 53, "x" * 33 + "-3fb6eb1a"),  # cut, with a hash of the whole
    ],
)
def test_names_follow_the_release(release: str, fullname: str) -> None:
    found = manifests(name=release)

    assert [m["metadata"]["name"] for m in every(found, "Deployment")] == [fullname]
    assert max(len(m["metadata"]["name"]) for m in found) <= 63 - len("-0")


def test_the_autoscaler_asks_for_a_metric_that_the_service_has() -> None:
    hpa = made("HorizontalPodAutoscaler", CASES["scaled-pods-metric"])
    metric = hpa["spec"]["metrics"][0]["pods"]["metric"]["name"]
    query = made("ScaledObject", CASES["scaled-keda"])["spec"]["triggers"][0]["metadata"]["query"]
    names = {family.name for family in Metrics(models=(), version="", graph="", guardrail_rules=()).registry.collect()}

    assert metric in names
    assert query == f'sum({metric}{{namespace="agents", job="my-agent"}})'
