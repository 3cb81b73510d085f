"""Rules that fail, and take others with them: https://github.com/prometheus-operator/prometheus-operator/issues/3270 (two pods of
one workload: `many-to-many matching not allowed`), https://github.com/prometheus-operator/prometheus-operator/issues/6138 and
https://github.com/prometheus-operator/prometheus-operator/issues/1831 (one rule that does not parse, and none of them is loaded).

Nothing of it happens here. Siblings: old and new pods side by side with all their labels different, a Prometheus that adds some,
tools, routes and models with quotes, braces, regular expressions and templates in their names, each option of an AlertPolicy.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_monitoring.rules import Selector, Slo, Thresholds, render
from tests.monitoring.rules.history import Series
from tests.monitoring.rules.promtool import promtool

pytestmark = pytest.mark.slow
"""promtool evaluates each rule on 5,000 series: 2.5 s of CPU. Each rule on few is in tests/monitoring/rules."""

ODD = [
    'say "hi"',
    "back\\slash",
    "a{b}",
    "a|b",
    "(.*)",
    "{{ $labels.pod }}",
    "new\nline",
    "$value",
    "ünïcode",
    "a/b:c",
    "'",
    "`",
    "#",
]

PODS = (
    {"pod": "bot-1", "instance": "10.0.0.1:9090", "version": "0.1.0"},
    {"pod": "bot-2", "instance": "10.0.0.2:9090", "version": "0.2.0", "endpoint": "metrics", "service": "other"},
    {"pod": "bot-2", "instance": "10.0.0.2:9090", "version": "0.2.0", "prometheus": "monitoring/k8s", "container": "sidecar"},
)
"""Old and new pods of a rollout; the last is the second one seen by another ServiceMonitor."""

LABELS: dict[str, list[str]] = {
    "tool": ODD,
    "model": ODD,
    "route": ["/chat", *ODD],
    "code": ["200", "503"],
    "status": ["ok", "error", "rate_limited", "server_error"],
    "outcome": ["completed", "failed", "iteration_limit"],
    "le": ["30.0", "45.0", "+Inf"],
    "key": ["openai"],
    "dependency": ["database"],
}


def groups() -> list[dict[str, Any]]:
    thresholds = Thresholds(
        daily_budget_usd=100,
        tool_failure_ratio_by_tool=dict.fromkeys(ODD, 0.2),
        http_error_ratio_by_route=dict.fromkeys(ODD, 0.2),
        rate_limited_ratio_by_model=dict.fromkeys(ODD, 0.2),
    )
    return render(thresholds, selector=Selector("shop", "bot"), slos=(Slo("availability", 0.999), Slo("latency", 0.99)))


def metrics(text: str) -> list[str]:
    return sorted(set(re.findall(r"\b(up|agent_\w+)\{", text)))


def series() -> list[str]:
    """Each metric of the rules on each pod, with each of these labels."""
    return [
        str(Series(metric, {**pod, label: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")}))
        for metric in metrics(yaml.dump(groups(), width=10_000, Dumper=yaml.CSafeDumper))
        for pod in PODS
        for label, values in LABELS.items()
        for value in values
    ]


def evaluate(folder: Path, rules: list[dict[str, Any]]) -> str:
    """Fails when a rule cannot be evaluated."""
    case = {"interval": "5m", "input_series": [{"series": each, "values": "1+7x12"} for each in series()]}
    (folder / "rules.yaml").write_text(yaml.dump({"groups": rules}, Dumper=yaml.CSafeDumper), encoding="utf-8")
    tests = folder / "tests.yaml"
    tests.write_text(
        yaml.dump({"rule_files": ["rules.yaml"], "evaluation_interval": "5m", "tests": [case]}, Dumper=yaml.CSafeDumper),
        encoding="utf-8",
    )
    return promtool("test", "rules", tests)


def test_every_rule_is_evaluated_while_old_and_new_pods_stand_side_by_side(tmp_path: Path) -> None:
    assert "SUCCESS" in evaluate(tmp_path, groups())
    assert "SUCCESS" in promtool("check", "rules", tmp_path / "rules.yaml")
    assert len(metrics(yaml.dump(groups(), width=10_000, Dumper=yaml.CSafeDumper))) > 15


def test_the_reported_rule_fails_on_the_same_pods(tmp_path: Path) -> None:
    reported = {"alert": "Reported", "expr": "agent_runs_queued / on (namespace, job) agent_runs_queued_limit"}
    with pytest.raises(AssertionError, match=r"multiple matches|many-to-many"):
        evaluate(tmp_path, [{"name": "reported", "rules": [reported]}])


def test_each_odd_name_has_an_alert_that_names_it() -> None:
    named = {rule["expr"] for group in groups() for rule in group["rules"] if rule["alert"] == "AgentToolFailuresHigh"}
    assert len(named) == len(ODD) + 1
