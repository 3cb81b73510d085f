"""Cases as files for Prometheus' own test runner."""

import math
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_monitoring.rules import Selector, Slo, Thresholds, render
from tests.monitoring.rules.history import RELEASE, Case, Sighting


def seconds(value: float) -> str:
    return f"{round(value)}s"


def sample(value: float) -> str:
    return "_" if math.isnan(value) else f"{value:.12g}"


def run_lengths(values: list[float]) -> str:
    """`0x3` is four zeros, `_x3` three missing samples."""
    runs = [(value, len([*same])) for value, same in groupby(map(sample, values))]
    return " ".join(repeated(value, count) for value, count in runs)


def repeated(value: str, count: int) -> str:
    if value == "_":
        return f"_x{count}"
    return value if count == 1 else f"{value}x{count - 1}"


def expected(rules: list[dict[str, Any]], seen: Sighting) -> list[dict[str, Any]]:
    if not seen.labels:
        return []
    labels = {**seen.labels, "severity": rules[0]["labels"]["severity"]}
    return [{"exp_labels": labels, "exp_annotations": {"summary": seen.summary}}]


def with_summary_only(rule: dict[str, Any]) -> dict[str, Any]:
    """The other annotations are fixed texts, and promtool would want each of them repeated."""
    return {**rule, "annotations": {"summary": rule["annotations"]["summary"]}}


def as_test(case: Case, rules: list[dict[str, Any]]) -> dict[str, Any]:
    at: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for seen in case.seen:
        at[seen.at] += expected(rules, seen)
    return {
        "name": f"{case.alert} {case.title}",
        "interval": seconds(case.step),
        "input_series": [{"series": name, "values": run_lengths(values)} for name, values in case.values.items()],
        "alert_rule_test": [
            {"eval_time": seconds(time), "alertname": case.alert, "exp_alerts": alerts} for time, alerts in at.items()
        ],
    }


def write(folder: Path, number: int, cases: list[Case], rules: list[dict[str, Any]]) -> Path:
    """A file with one alert's rules and one with its cases, which share a step."""
    group = {"name": "rules", "rules": [*map(with_summary_only, rules)]}
    (folder / f"rules-{number}.yaml").write_text(yaml.dump({"groups": [group]}, Dumper=yaml.CSafeDumper), encoding="utf-8")
    tests = {
        "rule_files": [f"rules-{number}.yaml"],
        "evaluation_interval": seconds(cases[0].step),
        "tests": [as_test(case, rules) for case in cases],
    }
    path = folder / f"tests-{number}.yaml"
    path.write_text(yaml.dump(tests, Dumper=yaml.CSafeDumper), encoding="utf-8")
    return path


def run_cases(folder: Path, cases: Iterable[Case], *, thresholds: Thresholds, slos: Iterable[Slo] = ()) -> None:
    """Evaluates the rules of these options on each case, in one process; where they see something else, the test fails."""
    rules = [rule for group in render(thresholds, selector=Selector(**RELEASE), slos=slos) for rule in group["rules"]]
    files: list[Path] = []
    by_alert = sorted(cases, key=lambda case: (case.alert, case.step))
    for (alert, _), same in groupby(by_alert, key=lambda case: (case.alert, case.step)):
        files.append(write(folder, len(files), [*same], [rule for rule in rules if rule["alert"] == alert]))
    promtool("test", "rules", *files)


def promtool(*arguments: str | Path) -> str:
    program = shutil.which("promtool")
    if not program:
        pytest.skip("needs promtool (Debian package prometheus)")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
