"""Writes the chart's alert rules from agent_operator.rules (`make alerts`)."""

from pathlib import Path

import yaml

from agent_operator.rules import Links, Selector, Thresholds, render

FILE = Path(__file__).parent.parent / "charts" / "slipway" / "files" / "alerts.yaml"

HEAD = """\
# Written by `make alerts` from operator/agent_operator/rules. templates/prometheusrule.yaml puts the release in for the
# names in double underscores; it is not a Helm template itself, as Prometheus' own templates are in it.
"""

PLACEHOLDERS = Selector(namespace="__NAMESPACE__", job="__JOB__")
LINKS = Links(runbooks="__RUNBOOKS__", grafana="__GRAFANA__")


class _Readable(yaml.SafeDumper):
    """Writes expressions of several lines as a block."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def render_file() -> str:
    """The file, YAML: groups of rules with default thresholds."""
    groups = render(Thresholds(), selector=PLACEHOLDERS, links=LINKS)
    return HEAD + yaml.dump({"groups": groups}, Dumper=_Readable, sort_keys=False, width=10_000)


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(render_file(), encoding="utf-8")
