"""Values that are not there: https://github.com/argoproj/argo-helm/issues/1114, https://github.com/cilium/cilium/issues/18115,
https://github.com/bitnami/charts/issues/1808 (`helm upgrade --reuse-values` over a chart with new values).

`nil pointer evaluating interface {}.enabled` was all that Helm said, where it said something: an upgrade with the release's old
values rendered a policy without a namespace, which shut Prometheus out. Siblings: a section that a values file leaves empty, a
null in a section, the operator's chart, and what may well be null.
"""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.charts.slipway import ANYWHERE, CHART, made
from tests.support.charts import CHARTS, merged, refusal, render, render_text, values_of
from tools.chart_schema import REQUIRED, leaves, read_values, required_text

RELEASE = CHARTS.parent / "tests" / "data" / "charts" / "slipway-0.1.0-rc.1.tgz"


@pytest.fixture
def reused(tmp_path: Path) -> Path:
    """This chart with the defaults of a release before it, as Helm has them with --reuse-values."""
    shutil.copytree(CHART, tmp_path / "slipway")
    with tarfile.open(RELEASE) as old:
        values = old.extractfile("slipway/values.yaml")
        assert values
        (tmp_path / "slipway" / "values.yaml").write_bytes(values.read())
    return tmp_path / "slipway"


def names(chart: Path) -> set[str]:
    return {value.name for value in leaves(read_values(chart / "values.yaml"))}


def test_an_upgrade_that_reuses_old_values_says_what_is_missing_and_how_to_upgrade(reused: Path) -> None:
    said = refusal(reused, {})
    newer = names(CHART) - names(reused)
    assert any(f"{name}: it is missing" in said for name in newer)
    assert "--reset-then-reuse-values" in said


def test_old_values_over_the_new_defaults_are_let_in(reused: Path) -> None:
    own = values_of("replicaCount=3", "networkPolicy.enabled=false")  # what --reset-then-reuse-values keeps
    assert made("Deployment", own)["spec"]["replicas"] == 3


@pytest.mark.parametrize("chart", ["slipway", "slipway-operator"])
def test_an_empty_section_is_named(chart: str) -> None:
    sections = [value.name for value in read_values(CHARTS / chart / "values.yaml") if value.children]
    said = {section: refusal(CHARTS / chart, {section: None}) for section in sections}
    assert {section for section, text in said.items() if f"{section}: it is missing" not in text} == set()
    assert len(sections) > 5


@pytest.mark.parametrize(
    "name",
    [
        "auth.jwt",
        "postgres.storage",
        "monitoring.alerts",
        "operator.agentHealth.enabled",
        "revisionHistoryLimit",
        "streaming.maxTurnSeconds",
        "auth.mode",
        "checkCRDs",
    ],
)
def test_a_null_in_a_section_is_named(name: str) -> None:
    assert f"{name}: it is missing" in refusal(CHART, values_of(f"{name}=null"))


@pytest.mark.parametrize("chart", ["slipway", "slipway-operator"])
def test_what_may_be_empty_may_be_null(chart: str) -> None:
    required = (CHARTS / chart / REQUIRED).read_text(encoding="utf-8").split()
    names = [value.name for value in leaves(read_values(CHARTS / chart / "values.yaml")) if value.name not in required]
    # Of a disruption budget one number is needed, and Helm cannot ask this cluster for its kinds.
    nulls = [f"{name}=null" for name in names if not name.startswith("pdb.")]
    assert render(CHARTS / chart, merged(ANYWHERE, values_of(*nulls)))
    assert len(nulls) > 15


def test_a_chart_within_another_has_its_defaults(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n", encoding="utf-8")
    shutil.copytree(CHART, parent / "charts" / "slipway")
    values: dict[str, Any] = {"slipway": {**ANYWHERE, "replicaCount": 3}, "global": {"anything": 1}}
    assert "replicas: 3" in "".join(render_text(parent, values).values())
    assert "operator: it is missing" in refusal(parent, merged(values, {"slipway": {"operator": None}}))


@pytest.mark.parametrize("chart", ["slipway", "slipway-operator"])
def test_the_list_of_names_is_what_the_values_say(chart: str) -> None:
    required = (CHARTS / chart / REQUIRED).read_text(encoding="utf-8")
    assert required == required_text(read_values(CHARTS / chart / "values.yaml")), "make chart-docs"
