"""Alerts on the operator: every metric exists, and each alert fires and is silent when it should."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.metrics import Metrics
from slipway_monitoring.rules import Selector
from slipway_monitoring.rules.operator_rules import render_operator
from tests.monitoring.rules.promtool import promtool

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks" / "operator"

SELECTOR = Selector(namespace="slipway-system", job="operator")
OWN = 'namespace="slipway-system",job="operator"'
OBJECT = 'namespace="team",job="operator",name="main"'
PLAIN = {"namespace": "slipway-system", "job": "operator"}
ABOUT = {"namespace": "team", "job": "operator", "name": "main"}

Case = tuple[str, str, str, str, dict[str, str] | None]
"""Alert, series, its values each minute, when to look, and the labels that are then seen beside the severity."""

P = "slipway_operator_"
CASES: list[Case] = [
    ("SlipwayOperatorDown", f"up{{{OWN}}}", "0x30", "20m", PLAIN),
    ("SlipwayOperatorDown", f'{P}build_info{{{OWN},version="1"}}', "1x30", "20m", None),
    (
        "SlipwayOperatorReconcileFailing",
        f'{P}reconcile_errors_total{{{OWN},kind="AlertPolicy",reason="forbidden"}}',
        "0+1x30",
        "25m",
        {**PLAIN, "kind": "AlertPolicy", "reason": "forbidden"},
    ),
    (
        "SlipwayOperatorReconcileFailing",
        f'{P}reconcile_errors_total{{{OWN},kind="AlertPolicy",reason="conflict"}}',
        "0+1x30",
        "25m",
        None,
    ),
    (
        "SlipwayOperatorReconcileFailing",
        f'{P}reconcile_errors_total{{{OWN},kind="AlertPolicy",reason="unavailable"}}',
        "0x10 2x20",
        "25m",
        None,
    ),
    ("SlipwayOperatorBehind", f"{P}queue_depth{{{OWN}}}", "3x30", "25m", PLAIN),
    ("SlipwayOperatorBehind", f"{P}queue_depth{{{OWN}}}", "3x8 0 3x20", "14m", None),
    ("SlipwayOperatorWithoutLease", f"{P}lease_held{{{OWN}}}", "0x30", "10m", PLAIN),
    ("SlipwayOperatorWithoutLease", f"{P}lease_held{{{OWN}}}", "0x3 1x30", "10m", None),
    ("SlipwayOperatorWatchStale", f"{P}watch_stale{{{OWN}}}", "2x30", "15m", PLAIN),
    ("SlipwayOperatorWatchStale", f"{P}watch_stale{{{OWN}}}", "2x5 0x30", "15m", None),
    ("SlipwayRotationStuck", f"{P}rotation_stuck{{{OBJECT}}}", "1x30", "5m", ABOUT),
    ("SlipwayRotationStuck", f"{P}rotation_stuck{{{OBJECT}}}", "0x30", "5m", None),
    # promtool's time begins at 0: a rotation that was due at 10 s is an hour late at 62 minutes.
    ("SlipwayRotationOverdue", f"{P}rotation_next_timestamp_seconds{{{OBJECT}}}", "10x90", "70m", ABOUT),
    ("SlipwayRotationOverdue", f"{P}rotation_next_timestamp_seconds{{{OBJECT}}}", "3000x90", "70m", None),
    (
        "SlipwayObjectNotReady",
        f'{P}condition{{{OBJECT},kind="KeyRotation",condition="Ready"}}',
        "0x60",
        "20m",
        {**ABOUT, "kind": "KeyRotation"},
    ),
    ("SlipwayObjectNotReady", f'{P}condition{{{OBJECT},kind="KeyRotation",condition="Ready"}}', "-1x60", "20m", None),
    (
        "SlipwayAlertsBlind",
        f'{P}condition{{{OBJECT},kind="AlertPolicy",condition="MetricsExist"}}',
        "0x60",
        "40m",
        {**ABOUT, "kind": "AlertPolicy"},
    ),
    ("SlipwayAlertsBlind", f'{P}condition{{{OBJECT},kind="AlertPolicy",condition="MetricsExist"}}', "1x60", "40m", None),
]


def rules() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in render_operator(selector=SELECTOR) for rule in group["rules"]}


def as_test(case: Case) -> dict[str, object]:
    alert, series, values, at, labels = case
    severity = rules()[alert]["labels"]["severity"]
    seen = [{"exp_labels": {**labels, "severity": severity}}] if labels is not None else []
    # A release that is there, so that only the alert in question can fire.
    alive = [] if alert == "SlipwayOperatorDown" else [{"series": f"{P}build_info{{{OWN}}}", "values": "1x120"}]
    return {
        "interval": "1m",
        "input_series": [*alive, {"series": series, "values": values}],
        "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": seen}],
    }


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    bare = [{**rule, "annotations": {}} for rule in rules().values()]
    (tmp_path / "rules.yaml").write_text(
        yaml.dump({"groups": [{"name": "all", "rules": bare}]}, Dumper=yaml.CSafeDumper), encoding="utf-8"
    )
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [as_test(case) for case in CASES]}
    (tmp_path / "tests.yaml").write_text(yaml.dump(tests, Dumper=yaml.CSafeDumper), encoding="utf-8")

    promtool("test", "rules", tmp_path / "tests.yaml")


def test_each_alert_has_a_case_both_ways() -> None:
    assert {case[0] for case in CASES if case[4] is not None} == {*rules()} == {case[0] for case in CASES if case[4] is None}


def test_prometheus_takes_the_rules_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.dump({"groups": render_operator(selector=SELECTOR)}, Dumper=yaml.CSafeDumper), encoding="utf-8")

    assert "SUCCESS" in promtool("check", "rules", path)


@pytest.mark.parametrize("alert", sorted(rules()))
def test_every_metric_in_a_rule_is_one_that_the_operator_has(alert: str) -> None:
    assert {*re.findall(r"(slipway_operator_\w+)\{", rules()[alert]["expr"])} <= declared()


def declared() -> set[str]:
    return {sample for family in Metrics("1").registry.collect() for sample in _names(family.name, family.type)}


def _names(name: str, kind: str) -> set[str]:
    suffixes = {"counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}.get(kind, [""])
    return {name + suffix for suffix in suffixes}


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    linked = {rule["annotations"]["runbook"].rpartition("/")[2] for rule in rules().values()}
    pages = {page.name: page.read_text(encoding="utf-8").splitlines()[0] for page in RUNBOOKS.glob("*.md")}

    assert {rule["annotations"]["runbook"].rpartition("/")[0] for rule in rules().values()} == {"docs/runbooks/operator"}
    assert pages.keys() == linked
    assert {*pages.values()} == {f"# {alert}" for alert in rules()}


def test_queries_of_the_runbooks_parse_and_name_metrics_that_exist(tmp_path: Path) -> None:
    texts = {page.stem: page.read_text(encoding="utf-8") for page in RUNBOOKS.glob("*.md")}
    queries = [
        {"record": f"runbook:{stem.replace('-', '_')}", "expr": re.findall(r"```promql\n(.*?)```", text, re.DOTALL)[0]}
        for stem, text in texts.items()
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.dump({"groups": [{"name": "runbooks", "rules": queries}]}, Dumper=yaml.CSafeDumper), encoding="utf-8")

    assert "SUCCESS" in promtool("check", "rules", path)
    assert {name for text in texts.values() for name in re.findall(r"slipway_operator_\w+", text)} <= declared()
