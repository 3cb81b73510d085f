"""Panels as SVG and HTML."""

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from slipway_monitoring.dashboards.reading import Json
from tools.dashboard_preview.prometheus import Series
from tools.dashboard_preview.units import text

COLORS = ("#73BF69", "#F2CC0C", "#5794F2", "#FF9830", "#F2495C", "#B877D9", "#8AB8FF", "#FFA6B0", "#96D98D", "#FFCB7D")
NAMED = {
    "green": "#73BF69",
    "orange": "#FF9830",
    "red": "#F2495C",
    "yellow": "#FADE2A",
    "blue": "#5794F2",
    "text": "#d8d9da",
    "transparent": "#d8d9da",
}
LEFT, BOTTOM, TOP = 64, 18, 6
"""Pixels around the plot."""


@dataclass(frozen=True, slots=True)
class Line:
    """A series under the name that the legend gives it."""

    name: str
    series: Series


@dataclass(frozen=True, slots=True)
class Box:
    """Of a plot: pixels, seconds, and the highest value."""

    width: float
    height: float
    start: float
    end: float
    top: float

    def x(self, moment: float) -> float:
        return LEFT + (self.width - LEFT - 8) * (moment - self.start) / (self.end - self.start)

    def y(self, value: float) -> float:
        return TOP + (self.height - TOP - BOTTOM) * (1 - value / self.top)


def steps(panel: Json) -> list[tuple[float, str]]:
    """The panel's lines: value and colour."""
    found = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    return [(-math.inf if step["value"] is None else step["value"], NAMED[step["color"]]) for step in found]


def stat(panel: Json, lines: Sequence[Line]) -> str:
    """A tile per series: its last value and its course."""
    defaults = panel["fieldConfig"]["defaults"]
    tiles = []
    for line in lines:
        last = [*line.series.values.values()][-1]
        color = NAMED["text"] if math.isnan(last) else [shade for limit, shade in steps(panel) if last >= limit][-1]
        name = f"<i>{escape(line.name)}</i>" if len(lines) > 1 else ""
        shown = escape(text(last, defaults["unit"], defaults.get("decimals")))
        tiles.append(f'<div class="tile">{_spark(line.series, color)}{name}<b style="color:{color}">{shown}</b></div>')
    return "".join(tiles)


def _spark(series: Series, color: str) -> str:
    good = {moment: value for moment, value in series.values.items() if not math.isnan(value)}
    if min(good, default=0) == max(good, default=0):
        return ""
    start, end, low, high = min(good), max(good), min(good.values()), max(good.values())
    spread = (high - low) or 1
    points = " ".join(f"{100 * (t - start) / (end - start):.1f},{28 - 26 * (v - low) / spread:.1f}" for t, v in good.items())
    area = f'<polygon points="0,30 {points} 100,30" fill="{color}" opacity=".18"/>'
    return f'<svg viewBox="0 0 100 30" preserveAspectRatio="none">{area}</svg>'


def graph(
    panel: Json, lines: Sequence[Line], size: tuple[float, float], span: tuple[float, float], marks: Iterable[float]
) -> str:
    """Lines over time with a legend; a stacked panel as areas."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    shades = _shades(panel, lines)
    drawn = _stack(lines) if stacked else [(line, {}) for line in lines]
    legend_height = min(4, len(lines)) * 15 + 18
    highest = max((v for line, _ in drawn for v in line.series.values.values() if not math.isnan(v)), default=0)
    limits = [(value, color) for value, color in steps(panel)[1:] if value <= (highest * 4 or math.inf)]
    top = defaults.get("max") or max([highest, *(value for value, _ in limits)]) * 1.08 or 1
    box = Box(size[0], size[1] - legend_height, *span, top)
    parts = [*_axes(box, defaults["unit"]), *_marks(box, marks)]
    for number, (line, floor) in enumerate(drawn):
        parts.append(_path(box, line.series, floor if stacked else None, shades[number]))
    parts += [
        f'<line x1="{LEFT}" x2="{box.width - 8}" y1="{box.y(value):.1f}" y2="{box.y(value):.1f}" '
        f'stroke="{color}" stroke-dasharray="7 5"/>'
        for value, color in limits
    ]
    picture = f'<svg width="{box.width}" height="{box.height}">{"".join(parts)}</svg>'
    return picture + _legend(lines, shades, defaults["unit"])


def _stack(lines: Sequence[Line]) -> list[tuple[Line, dict[float, float]]]:
    floor: dict[float, float] = {}
    stacked = []
    for line in lines:
        good = {t: 0 if math.isnan(v) else v for t, v in line.series.values.items()}
        top = {t: floor.get(t, 0) + v for t, v in good.items()}
        stacked.append((Line(line.name, Series(line.series.labels, top)), {t: floor.get(t, 0) for t in top}))
        floor = {**floor, **top}
    return stacked


def _path(box: Box, series: Series, floor: dict[float, float] | None, color: str) -> str:
    moments = [t for t, value in series.values.items() if not math.isnan(value)]
    step = min((b - a for a, b in pairwise(series.values)), default=0)
    runs: list[list[float]] = []
    for moment in moments:
        if not runs or moment - runs[-1][-1] > step * 1.5:
            runs.append([])
        runs[-1].append(moment)
    return "".join(_run(box, series, floor, color, run) for run in runs)


def _run(box: Box, series: Series, floor: dict[float, float] | None, color: str, moments: list[float]) -> str:
    points = " ".join(f"{box.x(t):.1f},{box.y(series.values[t]):.1f}" for t in moments)
    back = " ".join(f"{box.x(t):.1f},{box.y((floor or {}).get(t, 0)):.1f}" for t in reversed(moments))
    opacity = ".35" if floor is not None else ".06"
    area = f'<polygon points="{points} {back}" fill="{color}" opacity="{opacity}"/>'
    return f'{area}<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.3"/>'


def _axes(box: Box, unit: str) -> Iterable[str]:
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = box.y(box.top * share)
        yield f'<line x1="{LEFT}" x2="{box.width - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#2c3235"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{escape(text(box.top * share, unit))}</text>'
    for quarter in range(1, 4):
        moment = box.start + (box.end - box.start) * quarter / 4
        clock = time.strftime("%H:%M", time.localtime(moment))
        yield f'<text x="{box.x(moment):.1f}" y="{box.height - 4}" text-anchor="middle">{clock}</text>'


def _marks(box: Box, marks: Iterable[float]) -> Iterable[str]:
    for moment in marks:
        x = box.x(moment)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{box.height - BOTTOM}" stroke="#5794F2" stroke-dasharray="2 3"/>'


def _shades(panel: Json, lines: Sequence[Line]) -> list[str]:
    """Grafana's colours in turn, but for series that the panel gives one."""
    fixed = [
        (override["matcher"]["options"].strip("/"), NAMED[value["value"]["fixedColor"]])
        for override in panel["fieldConfig"]["overrides"]
        for value in override["properties"]
        if value["id"] == "color"
    ]
    return [
        next((color for pattern, color in fixed if re.search(pattern, line.name)), COLORS[number % len(COLORS)])
        for number, line in enumerate(lines)
    ]


def _legend(lines: Sequence[Line], shades: Sequence[str], unit: str) -> str:
    """Highest first, as the panels' legends are sorted."""
    rows = []
    for line, shade in sorted(zip(lines, shades, strict=True), key=lambda each: -_highest(each[0])):
        values = [value for value in line.series.values.values() if not math.isnan(value)]
        last, most = (text(values[-1], unit), text(max(values), unit)) if values else ("", "")
        swatch = f'<u style="background:{shade}"></u>'
        rows.append(f"<tr><td>{swatch}{escape(line.name)}</td><td>{last}</td><td>{most}</td></tr>")
    return f'<div class="legend"><table><tr><th></th><th>Last *</th><th>Max</th></tr>{"".join(rows)}</table></div>'


def _highest(line: Line) -> float:
    return max((value for value in line.series.values.values() if not math.isnan(value)), default=-1)


def heatmap(panel: Json, lines: Sequence[Line], size: tuple[float, float], span: tuple[float, float]) -> str:
    """Cumulative buckets become cells, as Grafana does with the format `heatmap`."""
    ordered = sorted(lines, key=lambda line: float(line.series.labels["le"]))
    cells = [
        {t: max(0.0, value - (below.series.values.get(t, 0) if below else 0)) for t, value in line.series.values.items()}
        for below, line in zip([None, *ordered], ordered, strict=False)
    ]
    most = max((value for row in cells for value in row.values()), default=0) or 1
    box = Box(size[0], size[1], *span, len(cells))
    width = (box.width - LEFT - 8) / max(1, max((len(row) for row in cells), default=1))
    parts = []
    for number, (line, row) in enumerate(zip(ordered, cells, strict=True)):
        height = box.y(0) - box.y(1)
        bound = float(line.series.labels["le"])
        label = "+Inf" if math.isinf(bound) else text(bound, panel["fieldConfig"]["defaults"]["unit"])
        parts.append(f'<text x="{LEFT - 5}" y="{box.y(number + 0.5) + 3:.1f}" text-anchor="end">{label}</text>')
        parts += [
            f'<rect x="{box.x(t):.1f}" y="{box.y(number + 1):.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="#FF780A" opacity="{(value / most) ** 0.5:.2f}"/>'
            for t, value in row.items()
            if value
        ]
    return f'<svg width="{box.width}" height="{box.height}">{"".join(parts)}</svg>'


def table(panel: Json, columns: dict[str, list[Series]]) -> str:
    """One row per combination of labels, the first column's highest on top."""
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    (organized,) = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
    seen = {name for found in columns.values() for each in found for name in each.labels}
    names = sorted(seen - {*organized["excludeByName"]}, key=organized["indexByName"].__getitem__)
    for title, found in columns.items():
        for each in found:
            rows.setdefault(tuple(each.labels.get(name, "") for name in names), {})[title] = next(iter(each.values.values()))
    units = {o["matcher"]["options"]: o["properties"][0]["value"] for o in panel["fieldConfig"]["overrides"]}
    first = next(iter(columns))
    head = "".join(f"<th>{name}</th>" for name in (*names, *columns))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(label)}</td>' for label in labels)}"
        f"{''.join(f'<td>{text(values.get(title, math.nan), units[title])}</td>' for title in columns)}</tr>"
        for labels, values in sorted(rows.items(), key=lambda row: -row[1].get(first, 0))
    )
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'
