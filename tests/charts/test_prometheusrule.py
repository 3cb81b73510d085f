"""The alerts as the chart ships them: those of `make alerts`, for this release and no other."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_monitoring.rules import TURN_BOUNDS, Links, Selector, Slo, Thresholds, render
from tests.charts.slipway import CHART, made, manifests
from tests.monitoring.rules.promtool import promtool
from tests.support.charts import refusal, values_of

ON = "monitoring.alerts.enabled=true"
LINKS = Links(runbooks="https://docs.example/runbooks", grafana="https://grafana.example")
ADDRESSES = (f"monitoring.alerts.runbooksUrl={LINKS.runbooks}/", f"monitoring.alerts.grafanaUrl={LINKS.grafana}")


def rule(*sets: str) -> dict[str, Any]:
    return made("PrometheusRule", values_of(ON, *sets))


def test_its_groups_are_those_of_the_code_for_this_release() -> None:
    shipped = rule(*ADDRESSES)

    assert shipped["spec"]["groups"] == of_the_code(shipped, Thresholds())


def of_the_code(shipped: dict[str, Any], thresholds: Thresholds, *slos: Slo) -> list[dict[str, Any]]:
    release = Selector(shipped["metadata"]["namespace"], shipped["metadata"]["labels"]["app.kubernetes.io/instance"])
    return render(thresholds, selector=release, slos=slos, links=LINKS)


OTHERS: dict[str, Any] = {
    "slow_turn_ratio": 0.07,
    "http_error_ratio": 0.005,
    "run_failure_ratio": 1.0,
    "stream_gap_ratio": 0.3,
    "tool_failure_ratio": 0.15,
    "iteration_limit_ratio": 0.029,
    "rate_limited_ratio": 0.33,
    "model_failure_ratio": 0.125,
    "cost_usd_per_hour": 12.5,
    "daily_budget_usd": 1_500.0,
    "budget_ratio": 0.57,
    "pool_ratio": 0.8,
    "queue_ratio": 0.5,
    "loop_lag_seconds": 0.2,
    "drain_grace_seconds": 90.0,
    "crash_recoveries": 10.0,
    "key_age_days": 30.0,
}


def value_of(threshold: str) -> str:
    first, *rest = threshold.split("_")
    return f"monitoring.alerts.thresholds.{first}{''.join(map(str.capitalize, rest))}"


def test_other_thresholds_and_objectives_make_the_rules_that_an_alert_policy_would_have() -> None:
    sets = [f"{value_of(name)}={value:g}" for name, value in OTHERS.items()]
    shipped = rule(
        *ADDRESSES,
        *sets,
        "monitoring.alerts.objectives.availability=0.995",
        "monitoring.alerts.objectives.latency=0.9",
        "monitoring.alerts.thresholds.turnSeconds=60",
    )

    wanted = of_the_code(shipped, Thresholds(turn_seconds=60, **OTHERS), Slo("availability", 0.995), Slo("latency", 0.9))
    assert shipped["spec"]["groups"] == wanted


@pytest.mark.parametrize("seconds", TURN_BOUNDS)
def test_every_bound_of_the_histogram_can_be_what_is_slow(seconds: float) -> None:
    shipped = rule(*ADDRESSES, f"{value_of('turn_seconds')}={seconds:g}", "streaming.maxTurnSeconds=600")

    assert shipped["spec"]["groups"] == of_the_code(shipped, Thresholds(turn_seconds=seconds))


@pytest.mark.parametrize(("longest", "slow"), [(5, 5), (19, 10), (29, 20), (30, 30), (3600, 30)])
def test_what_is_slow_is_within_the_longest_turn(longest: int, slow: float) -> None:
    shipped = rule(*ADDRESSES, f"streaming.maxTurnSeconds={longest}")

    assert shipped["spec"]["groups"] == of_the_code(shipped, Thresholds(turn_seconds=slow))


@pytest.mark.parametrize(
    "wrong",
    [
        "thresholds.turnSeconds=31",
        "thresholds.httpErrorRatio=1.5",
        "thresholds.poolRatio=0",
        "thresholds.costUsdPerHour=-1",
        "objectives.availability=0.4",
        "objectives.latency=1",
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_its_name(wrong: str) -> None:
    assert wrong.partition("=")[0].split(".")[1] in refusal(CHART, values_of("checkCRDs=false", ON, f"monitoring.alerts.{wrong}"))


def groups_for_promtool(folder: Path, *sets: str) -> Path:
    """A file with the shipped rules, for tests that say what a promise of other numbers brings."""
    path = folder / "rules.yaml"
    path.write_text(yaml.dump({"groups": rule(*sets)["spec"]["groups"]}, Dumper=yaml.CSafeDumper), encoding="utf-8")
    return path


@pytest.mark.parametrize(("sets", "fires"), [((), False), ((f"{value_of('cost_usd_per_hour')}=5",), True)])
def test_a_lower_threshold_fires_on_what_the_default_lets_pass(tmp_path: Path, sets: tuple[str, ...], fires: bool) -> None:
    release = 'namespace="agents",job="my-agent"'
    groups_for_promtool(tmp_path, *sets)
    # 0.1 USD a minute: 6 an hour
    series = {"series": f'agent_cost_usd_total{{{release},pod="a",model="m"}}', "values": "0+0.1x40"}
    asked = {"expr": 'count(ALERTS{alertname="AgentCostHigh",alertstate="firing"}) or vector(0)', "eval_time": "35m"}
    expected = [{**asked, "exp_samples": [{"value": int(fires), "labels": "{}"}]}]
    test = {"interval": "1m", "input_series": [series], "promql_expr_test": expected}
    (tmp_path / "tests.yaml").write_text(
        yaml.dump({"rule_files": ["rules.yaml"], "tests": [test]}, Dumper=yaml.CSafeDumper), encoding="utf-8"
    )

    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yaml")


@pytest.mark.parametrize(("objective", "fires"), [("null", False), ("0.99", True), ("0.6", False)])
def test_an_objective_fires_on_the_share_of_failures_that_burns_its_budget(tmp_path: Path, objective: str, fires: bool) -> None:
    release = 'namespace="agents",job="my-agent",pod="a"'
    groups_for_promtool(tmp_path, f"monitoring.alerts.objectives.availability={objective}", f"{value_of('run_failure_ratio')}=1")
    series = [
        {"series": f'agent_runs_total{{{release},outcome="completed"}}', "values": "0+80x120"},
        {"series": f'agent_runs_total{{{release},outcome="failed"}}', "values": "0+20x120"},
    ]
    asked = 'count(ALERTS{alertname="AgentErrorBudgetBurnFast",alertstate="firing"}) > bool 0 or vector(0)'
    expected = [{"expr": asked, "eval_time": "90m", "exp_samples": [{"value": int(fires), "labels": "{}"}]}]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    (tmp_path / "tests.yaml").write_text(
        yaml.dump({"rule_files": ["rules.yaml"], "tests": [test]}, Dumper=yaml.CSafeDumper), encoding="utf-8"
    )

    assert "SUCCESS" in promtool("test", "rules", tmp_path / "tests.yaml")


def test_prometheus_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.dump(rule()["spec"], Dumper=yaml.CSafeDumper), encoding="utf-8")

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
