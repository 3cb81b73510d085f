"""What is in a dashboard's JSON, for the preview and for tests."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

METRIC = re.compile(r"\b((?:agent|process|slipway_operator)_\w+|up|ALERTS)\b(?=\{)")
SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """A query of a panel, or of the marks across all panels (`panel` is then the mark's name)."""

    dashboard: str
    panel: str
    expr: str
    legend: str


def panels(dashboard: Json) -> Iterator[Json]:
    """In reading order, without the rows' headings."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def panel_queries(dashboard: Json) -> Iterator[PanelQuery]:
    """Every query of every panel, in reading order."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield PanelQuery(dashboard["uid"], panel["title"], target["expr"], target.get("legendFormat", ""))


def mark_queries(dashboard: Json) -> Iterator[PanelQuery]:
    """What they select is not there most of the time."""
    for mark in dashboard["annotations"].get("list") or ():
        yield PanelQuery(dashboard["uid"], mark["name"], mark["expr"], "")


def metrics(expr: str) -> set[str]:
    """Names of the series that a query reads."""
    return set(METRIC.findall(expr))


def fill(expr: str, *, rate_interval: str, time_range: str, choices: Mapping[str, str] | None = None) -> str:
    """The query with Grafana's variables replaced. What is not in `choices` is All."""
    for name in ("namespace", "object_namespace", "job", "pod"):
        expr = expr.replace(f"${name}", (choices or {}).get(name, ".+"))
    return expr.replace("$__rate_interval", rate_interval).replace("$__range", time_range)
