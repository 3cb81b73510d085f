"""Plots as SVG text: bars and lines, legible on light and on dark pages. (A plotting library would be 30 MB for two shapes.)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 64, 48

COLOURS = ("#8b949e", "#2f81f7", "#1a9e6c", "#d29922", "#c2569b")
"""Each has a contrast of 3:1 and more to white and to GitHub's dark page."""

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.axis { stroke: #8b949e; stroke-width: 1 } .grid { stroke: #8b949e; stroke-width: 1; opacity: .25 }
.mark { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 6 4 } .line { fill: none; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .mark { stroke: #ff7b72 } }"""


@dataclass(frozen=True, slots=True)
class Plot:
    """`mark`: a value to which a dashed line is drawn, and what it says. `most`: values above are drawn at the top."""

    title: str
    x_label: str
    y_label: str
    mark: tuple[float, str] | None = None
    most: float | None = None


def bars(plot: Plot, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Groups along the x axis, a bar for each series in them, with its value on top."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    top = _top(plot, [value for group in groups.values() for value in group.values()])
    width = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    bar = width * 0.8 / max(1, len(series))
    parts = []
    for place, (group, values) in enumerate(groups.items()):
        left = LEFT + place * width
        parts.append(_text(left + width / 2, HEIGHT - BOTTOM + 18, group, anchor="middle"))
        for name, value in values.items():
            at = series.index(name)
            x, y = left + width * 0.1 + at * bar, _y(value, top)
            height = HEIGHT - BOTTOM - y
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar * 0.92:.1f}" height="{height:.1f}" fill="{_colour(at)}"/>')
            parts.append(_text(x + bar * 0.46, y - 4, _number(value), anchor="middle"))
    return _svg(plot, top, series, parts)


def lines(plot: Plot, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each series of points (x, y), from 0 on."""
    top = _top(plot, [y for points in series.values() for _, y in points])
    widest = max((x for points in series.values() for x, _ in points), default=1) or 1
    parts = []
    for at, points in enumerate(series.values()):
        places = [(LEFT + x / widest * (WIDTH - LEFT - RIGHT - 24), _y(min(y, top), top)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line" points="{path}" stroke="{_colour(at)}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_colour(at)}"/>' for x, y in places]
    for x in sorted({x for points in series.values() for x, _ in points}):
        place = LEFT + x / widest * (WIDTH - LEFT - RIGHT - 24)
        parts.append(_text(place, HEIGHT - BOTTOM + 18, _number(x), anchor="middle"))
    return _svg(plot, top, list(series), parts)


def _svg(plot: Plot, top: float, series: Sequence[str], parts: Sequence[str]) -> str:
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(plot.title)}</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 22, plot.title, css="title"),
        *_legend(series),
        *_axes(plot, top),
        *parts,
        "</svg>",
    ]
    return "\n".join(found) + "\n"


def _legend(series: Sequence[str]) -> list[str]:
    found, x = [], float(LEFT)
    for at, name in enumerate(series):
        found.append(f'<rect x="{x:.0f}" y="34" width="12" height="12" fill="{_colour(at)}"/>')
        found.append(_text(x + 17, 45, name))
        x += 36 + 7 * len(name)
    return found


def _axes(plot: Plot, top: float) -> list[str]:
    found = []
    for step in range(5):
        value = top * step / 4
        y = _y(value, top)
        kind = "grid" if step else "axis"
        found.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        found.append(_text(LEFT - 8, y + 4, _number(value), anchor="end"))
    found.append(_text(WIDTH - RIGHT, HEIGHT - 8, plot.x_label, anchor="end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    found.append(f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(plot.y_label)}</text>')
    if plot.mark and plot.mark[0] <= top:
        y = _y(plot.mark[0], top)
        found.append(f'<line class="mark" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        found.append(_text(WIDTH - RIGHT, y - 5, plot.mark[1], anchor="end"))
    return found


def _top(plot: Plot, values: Sequence[float]) -> float:
    """The end of the y axis: a round number not below the largest value."""
    largest = max([*values, plot.mark[0] if plot.mark else 0.0, 1e-9])
    largest = min(largest, plot.most) if plot.most else largest
    unit = 10.0 ** (len(f"{int(largest)}") - 1) if largest >= 1 else 10.0 ** -len(f"{1 / largest:.0f}")
    return next(step * unit for step in (1, 2, 4, 5, 8, 10, 12, 20, 100) if step * unit >= largest)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - min(value, top) / top * (HEIGHT - TOP - BOTTOM)


def _colour(at: int) -> str:
    return COLOURS[at % len(COLOURS)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
