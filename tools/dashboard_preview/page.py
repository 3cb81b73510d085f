"""A dashboard as one HTML page on Grafana's grid of 24 columns."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from slipway_monitoring.dashboards.reading import Json, PanelQuery, fill, mark_queries, panels
from tools.dashboard_preview import draw
from tools.dashboard_preview.prometheus import Api, Series

WIDTH, CELL, GAP = 1600, 38, 8
"""Pixels: of the page, and of a grid cell's height with the gap below it, as in Grafana."""

STYLE = f"""
body {{ background: #111217; color: #d8d9da; font: 12px Inter, "DejaVu Sans", sans-serif; margin: 12px; width: {WIDTH}px; }}
h1 {{ font-size: 18px; font-weight: 500; }} h1 small {{ color: #8e8e8e; font-size: 12px; margin-left: 12px; }}
main {{ position: relative; }}
section, h2 {{ position: absolute; box-sizing: border-box; overflow: hidden; margin: 0; }}
section {{ background: #181b1f; border: 1px solid #25272c; border-radius: 2px; padding: 6px 8px; }}
section.empty {{ border-color: #F2495C; }}
h2 {{ font-size: 14px; font-weight: 500; line-height: 30px; }}
h3 {{ font-size: 12px; font-weight: 500; margin: 0 0 2px; white-space: nowrap; }}
svg text {{ fill: #9fa7b3; font-size: 10px; }}
.stats {{ display: flex; gap: 6px; height: 100px; flex-direction: column; }}
.tile {{ position: relative; flex: 1; display: flex; align-items: center; justify-content: space-between; gap: 6px; }}
.tile svg {{ position: absolute; bottom: 0; width: 100%; height: 60%; }}
.tile b {{ font-size: 20px; font-weight: 500; }} .tile i {{ font-style: normal; font-size: 11px; color: #9fa7b3; }}
.legend {{ max-height: 80px; overflow: hidden; }}
.legend table, .table table {{ width: 100%; border-collapse: collapse; font-size: 11px; }}
td, th {{ text-align: left; padding: 0 6px 1px 0; white-space: nowrap; }} th {{ color: #6e9fff; font-weight: 400; }}
.table td, .table th {{ padding: 4px 8px 4px 0; border-bottom: 1px solid #25272c; }}
u {{ display: inline-block; width: 12px; height: 3px; margin-right: 6px; vertical-align: middle; }}
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Unix times and the distance of points, seconds."""

    start: float
    end: float
    step: float

    def fill(self, expr: str) -> str:
        # Grafana's $__rate_interval: four scrapes at least.
        return fill(expr, rate_interval=f"{4 * self.step:.0f}s", time_range=f"{self.end - self.start:.0f}s")


def render(dashboard: Json, api: Api, span: Span) -> tuple[str, list[str]]:
    """The page, and the panels that no series answered."""
    marks = [*_marks(dashboard, api, span)]
    empty: list[str] = []
    parts = [_heading(panel) for panel in dashboard["panels"] if panel["type"] == "row"]
    for panel in panels(dashboard):
        body, found = _body(panel, api, span, marks)
        if not found:
            empty.append(panel["title"])
        state = "" if found else "empty"
        parts.append(f'<section class="{state}" style="{_place(panel)}"><h3>{escape(panel["title"])}</h3>{body}</section>')
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * CELL
    head = f"<h1>{escape(dashboard['title'])}<small>{escape(dashboard['description'])}</small></h1>"
    main = f'<main style="height:{height}px">{"".join(parts)}</main>'
    return f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{head}{main}', empty


def _place(panel: Json) -> str:
    place = panel["gridPos"]
    column = (WIDTH + GAP) / 24
    left, width = place["x"] * column, place["w"] * column - GAP
    return f"left:{left:.0f}px;top:{place['y'] * CELL}px;width:{width:.0f}px;height:{place['h'] * CELL - GAP}px"


def _heading(row: Json) -> str:
    return f'<h2 style="{_place(row)}">⌄ {escape(row["title"])}</h2>'


def _body(panel: Json, api: Api, span: Span, marks: list[float]) -> tuple[str, bool]:
    if panel["type"] == "table":
        columns = {target["legendFormat"]: api.at(span.fill(target["expr"]), span.end) for target in panel["targets"]}
        return draw.table(panel, columns), all(columns.values())
    answers = [(target, api.over_time(span.fill(target["expr"]), span.start, span.end, span.step)) for target in panel["targets"]]
    lines = [draw.Line(_name(target["legendFormat"], series), series) for target, found in answers for series in found]
    place = panel["gridPos"]
    size = (place["w"] * (WIDTH + GAP) / 24 - GAP - 18, place["h"] * CELL - GAP - 34)
    match panel["type"]:
        case "stat":
            body = f'<div class="stats">{draw.stat(panel, lines)}</div>'
        case "heatmap":
            body = draw.heatmap(panel, lines, size, (span.start, span.end))
        case _:
            body = draw.graph(panel, lines, size, (span.start, span.end), marks)
    return body, all(found for _, found in answers)


def _name(legend: str, series: Series) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: series.labels.get(match[1], ""), legend)


def _marks(dashboard: Json, api: Api, span: Span) -> Iterator[float]:
    """Moments at which a new version appears."""
    for mark in mark_queries(dashboard):
        if mark.panel == "New version":
            yield from _first_moments(mark, api, span)


def _first_moments(mark: PanelQuery, api: Api, span: Span) -> Iterator[float]:
    for series in api.over_time(span.fill(mark.expr), span.start, span.end, span.step):
        yield min(series.values)
