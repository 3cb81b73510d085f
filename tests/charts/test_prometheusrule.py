"""The alerts as the chart ships them: those of `make alerts`, for this release and no other."""

from pathlib import Path
from typing import Any

import yaml

from slipway_monitoring.rules import Links, Selector, Thresholds, render
from tests.charts.slipway import made, manifests
from tests.monitoring.rules.promtool import promtool
from tests.support.charts import values_of

ON = "monitoring.alerts.enabled=true"
LINKS = Links(runbooks="https://docs.example/runbooks", grafana="https://grafana.example")
ADDRESSES = (f"monitoring.alerts.runbooksUrl={LINKS.runbooks}/", f"monitoring.alerts.grafanaUrl={LINKS.grafana}")


def rule(*sets: str) -> dict[str, Any]:
    return made("PrometheusRule", values_of(ON, *sets))


def test_its_groups_are_those_of_the_code_for_this_release() -> None:
    shipped = rule(*ADDRESSES)
    release = Selector(shipped["metadata"]["namespace"], shipped["metadata"]["labels"]["app.kubernetes.io/instance"])

    assert shipped["spec"]["groups"] == render(Thresholds(), selector=release, links=LINKS)


def test_prometheus_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule()["spec"]), encoding="utf-8")

    assert "SUCCESS" in promtool("check", "rules", path)


def test_alerts_can_be_left_out_and_an_empty_group_is_none() -> None:
    groups = rule("monitoring.alerts.disabled=[AgentKeyTooOld, AgentKeyRevisionSpread, AgentCostHigh]")["spec"]["groups"]
    left = {alert["alert"] for group in groups for alert in group["rules"]}

    assert not left & {"AgentKeyTooOld", "AgentKeyRevisionSpread", "AgentCostHigh"}
    assert "AgentModelUnpriced" in left
    assert "slipway.keys" not in {group["name"] for group in groups}


def test_it_carries_the_labels_that_prometheus_selects_by() -> None:
    assert rule("monitoring.alerts.labels.release=kps")["metadata"]["labels"]["release"] == "kps"


def test_there_is_none_unless_asked_for() -> None:
    assert not [each for each in manifests() if each["kind"] == "PrometheusRule"]
