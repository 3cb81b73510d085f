"""The chart's ConfigMaps, as Grafana's sidecar finds them. Only this template is rendered: no other can break it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from slipway_monitoring.dashboards.reading import Json, panels
from slipway_monitoring.rules.alert import runbook_page
from tools.dashboards import AGENT, OPERATOR

CHART = AGENT.parent.parent
URL = "https://runbooks.example/slipway"
AGENT_DASHBOARDS = {path.name for path in AGENT.glob("*.json")}
TEMPLATES = ("_alerts.tpl", "_names.tpl", "_pod.tpl", "dashboards.yaml")
LIMIT = 256 * 1024
"""Bytes of the annotation in which `kubectl apply` notes an object."""


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chart") / "slipway"
    for name in ("Chart.yaml", "values.yaml", *(f"templates/{each}" for each in TEMPLATES)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHART / name, folder / name)
    shutil.copytree(AGENT, folder / "files/dashboards")
    return folder


def config_maps(chart: Path, *, runbooks: str = URL, release: str = "my-agent", **dashboards: Any) -> list[Json]:
    values = {"monitoring": {"dashboards": dashboards, "alerts": {"runbooksUrl": runbooks}}}
    with Chart.load(chart) as loaded:
        rendered = loaded.render(values, name=release, namespace="support")
    return [document for text in rendered.values() for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def dashboards_of(maps: list[Json]) -> dict[str, Json]:
    return {name: json.loads(text) for each in maps for name, text in each["data"].items()}


def test_dashboards_are_off_by_default(chart: Path) -> None:
    assert config_maps(chart) == []


def test_each_dashboard_is_a_config_map_that_the_sidecar_finds(chart: Path) -> None:
    maps = config_maps(chart, enabled=True)

    assert {name for each in maps for name in each["data"]} == AGENT_DASHBOARDS
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in maps} == {"1"}
    assert {each["metadata"]["annotations"]["grafana_folder"] for each in maps} == {"Slipway"}
    assert {each["metadata"]["namespace"] for each in maps} == {"support"}
    assert len({each["metadata"]["name"] for each in maps}) == len(maps)
    assert all(each["metadata"]["name"].startswith("my-agent-slipway-") for each in maps)


def test_the_sidecars_label_and_folder_can_be_others(chart: Path) -> None:
    maps = config_maps(chart, enabled=True, labels={"team/dashboard": "yes"}, annotations={"k8s-sidecar-target-directory": "/a"})

    assert {each["metadata"]["labels"]["team/dashboard"] for each in maps} == {"yes"}
    assert {each["metadata"]["annotations"]["k8s-sidecar-target-directory"] for each in maps} == {"/a"}


def test_helm_leaves_a_dashboard_as_it_is_but_for_the_runbooks_address(chart: Path) -> None:
    for name, rendered in dashboards_of(config_maps(chart, enabled=True)).items():
        generated = (AGENT / name).read_text(encoding="utf-8")
        assert rendered == json.loads(generated.replace("__RUNBOOKS__", URL))


def test_a_runbook_link_leads_to_where_runbooks_are_served(chart: Path) -> None:
    overview = dashboards_of(config_maps(chart, runbooks=f"{URL}/", enabled=True))["slipway-overview.json"]
    (variable,) = [each for each in overview["templating"]["list"] if each["name"] == "runbooks"]
    links = {link["url"] for panel in panels(overview) for link in panel.get("links") or ()}

    assert f"${{runbooks}}/{runbook_page('AgentTurnLatencyHigh')}" in links
    assert variable["query"] == URL


def test_an_object_fits_what_kubectl_notes_of_it(chart: Path) -> None:
    for each in config_maps(chart, enabled=True):
        assert len(json.dumps(each).encode()) < LIMIT


def test_the_operators_chart_brings_its_dashboard() -> None:
    values = {"monitoring": {"dashboards": {"enabled": True}}}
    with Chart.load(OPERATOR.parent.parent) as loaded:
        rendered = loaded.render(values, name="slipway-operator", namespace="slipway-system")
    (config_map,) = yaml.load_all(rendered["slipway-operator/templates/dashboards.yaml"], yaml.CSafeLoader)

    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config_map["metadata"]["annotations"] == {"grafana_folder": "Slipway"}
    assert json.loads(config_map["data"]["slipway-operator.json"])["uid"] == "slipway-operator"


def test_two_releases_bring_the_same_files(chart: Path) -> None:
    """A second release that is switched on by mistake changes nothing in Grafana."""
    first, second = (config_maps(chart, release=release, enabled=True) for release in ("one", "two"))

    assert dashboards_of(first) == dashboards_of(second)
    assert {each["metadata"]["name"] for each in first}.isdisjoint(each["metadata"]["name"] for each in second)
