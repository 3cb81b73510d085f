"""Writes the charts' alert rules from slipway_monitoring.rules (`make alerts`)."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from slipway_monitoring.rules import Links, Selector, Slo, Thresholds, render
from slipway_monitoring.rules.operator_rules import render_operator

CHARTS = Path(__file__).parent.parent / "charts"
FILE = CHARTS / "slipway" / "files" / "alerts.yaml"
OPERATOR_FILE = CHARTS / "slipway-operator" / "files" / "alerts.yaml"

HEAD = """\
# Written by `make alerts` from monitoring/slipway_monitoring/rules. templates/prometheusrule.yaml puts the release in for the
# names in double underscores; it is not a Helm template itself, as Prometheus' own templates are in it.
"""

PLACEHOLDERS = Selector(namespace="__NAMESPACE__", job="__JOB__")
LINKS = Links(runbooks="__RUNBOOKS__", grafana="__GRAFANA__")

CHART_HAS_NOT = {"key_spread_seconds"}
"""Thresholds that are no value of the chart: this one is the alert's `for`, a duration."""


class Placeholder(float):
    """A threshold that the chart fills in. Its value makes the rules' arithmetic go well; its text is a name, and what was done
    with it: `__COST_USD_PER_HOUR__`, `__POOL_RATIO_PERCENT__` (times 100), `_VOLUME` (2 divided by it, rounded up),
    `_LEFT_6` (1 without it, times 6).
    """

    def __new__(cls, value: float, name: str) -> Self:
        made = super().__new__(cls, value)
        made.name = name
        return made

    name: str

    def __format__(self, spec: str) -> str:
        return f"__{self.name}__"

    def __mul__(self, other: float) -> "Placeholder":
        done = "PERCENT" if other == 100 else f"{other:g}"  # noqa: PLR2004  # as rules write shares
        return Placeholder(float(self) * other, f"{self.name}_{done}")

    __rmul__ = __mul__

    def __rsub__(self, other: float) -> "Placeholder":
        return Placeholder(other - float(self), f"{self.name}_LEFT")

    def __rtruediv__(self, other: float) -> "Placeholder":
        return Placeholder(other / float(self), f"{self.name}_VOLUME")

    def __round__(self, digits: Any = None) -> Any:
        return self

    def __ceil__(self) -> Any:
        return self


def placeholders() -> Thresholds:
    """Every threshold that is a value of the chart, as a name."""
    plain = Thresholds(daily_budget_usd=1.0)
    names = [each.name for each in fields(plain) if isinstance(getattr(plain, each.name), float)]
    wanted: dict[str, Any] = {
        name: Placeholder(getattr(plain, name), name.upper()) for name in names if name not in CHART_HAS_NOT
    }
    return replace(plain, **wanted)


OBJECTIVES = (
    Slo("availability", Placeholder(0.99, "OBJECTIVE_AVAILABILITY")),
    Slo("latency", Placeholder(0.99, "OBJECTIVE_LATENCY")),
)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


class _Readable(yaml.SafeDumper):
    """Writes expressions of several lines as a block."""

    yaml_representers: ClassVar[dict[type, Any]] = {**yaml.SafeDumper.yaml_representers, str: _text}


def render_file() -> str:
    """The file, YAML: groups of rules with names for thresholds and objectives, too."""
    text = _file(render(placeholders(), selector=PLACEHOLDERS, slos=OBJECTIVES, links=LINKS))
    return re.sub(r'le=~"__TURN_SECONDS__[^"]*"', "__TURN_BOUND__", text)


def render_operator_file() -> str:
    """The operator chart's file: alerts on the operator and its objects."""
    return _file(render_operator(selector=PLACEHOLDERS, links=LINKS))


def _file(groups: list[dict[str, Any]]) -> str:
    return HEAD + yaml.dump({"groups": groups}, Dumper=_Readable, sort_keys=False, width=10_000)


if __name__ == "__main__":
    for path, text in ((FILE, render_file()), (OPERATOR_FILE, render_operator_file())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
