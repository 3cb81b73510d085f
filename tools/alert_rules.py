"""Writes the charts' alert rules from slipway_monitoring.rules (`make alerts`)."""

from pathlib import Path
from typing import Any, ClassVar

import yaml

from slipway_monitoring.rules import Links, Selector, Thresholds, render
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


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


class _Readable(yaml.SafeDumper):
    """Writes expressions of several lines as a block."""

    yaml_representers: ClassVar[dict[type, Any]] = {**yaml.SafeDumper.yaml_representers, str: _text}


def render_file() -> str:
    """The file, YAML: groups of rules with default thresholds."""
    return _file(render(Thresholds(), selector=PLACEHOLDERS, links=LINKS))


def render_operator_file() -> str:
    """The operator chart's file: alerts on the operator and its objects."""
    return _file(render_operator(selector=PLACEHOLDERS, links=LINKS))


def _file(groups: list[dict[str, Any]]) -> str:
    return HEAD + yaml.dump({"groups": groups}, Dumper=_Readable, sort_keys=False, width=10_000)


if __name__ == "__main__":
    for path, text in ((FILE, render_file()), (OPERATOR_FILE, render_operator_file())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
