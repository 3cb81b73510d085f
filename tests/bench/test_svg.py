from xml.etree import ElementTree

import pytest

from bench import svg
from bench.svg import Plot

SVG = "{http://www.w3.org/2000/svg}"
PLOT = Plot("CPU <a turn>", "clients & more", "ms", mark=(50, "goal"))


def shapes(text: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(SVG + kind))


def said(text: str) -> list[str]:
    return [element.text or "" for element in shapes(text, "text")]


def test_each_value_is_a_bar_as_high_as_it_is_large() -> None:
    text = svg.bars(PLOT, {"c=1": {"one": 25, "two": 50}, "c=16": {"two": 100}})
    heights = [float(bar.attrib["height"]) for bar in shapes(text, "rect") if float(bar.attrib["y"]) > 40]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.2)
    assert {"25", "50", "100", "c=1", "c=16", "one", "two", "goal"} <= set(said(text))


def test_a_series_keeps_its_colour_where_another_is_missing() -> None:
    text = svg.bars(PLOT, {"c=1": {"one": 1, "two": 2}, "c=16": {"two": 3}})
    colours = [bar.attrib["fill"] for bar in shapes(text, "rect")]
    assert colours[1] == colours[3] == colours[4]


def test_points_of_a_line_stand_where_their_values_say() -> None:
    text = svg.lines(PLOT, {"one": [(0, 0), (50, 25), (100, 50)]})
    x, y = zip(*((float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in shapes(text, "circle")), strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)
    assert y[0] > y[2]


def test_what_is_above_the_most_is_drawn_at_the_top() -> None:
    text = svg.lines(Plot("gap", "", "ms", most=200), {"one": [(1, 100), (2, 9000)]})
    assert min(float(dot.attrib["cy"]) for dot in shapes(text, "circle")) == svg.TOP
    assert "200" in said(text)


def test_a_plot_is_legible_on_dark_pages_and_tells_who_cannot_see_it() -> None:
    text = svg.lines(PLOT, {"one": [(1, 1)]})
    assert "prefers-color-scheme: dark" in text
    assert [title.text for title in shapes(text, "title")] == ["CPU <a turn>"]


@pytest.mark.parametrize("colour", svg.COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
def test_every_colour_stands_out_of_light_and_dark_pages(colour: str, page: str) -> None:
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 2.4


def luminance(colour: str) -> float:
    """WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("largest", [0.003, 0.19, 0.8, 1, 7.7, 10, 99.5, 206, 1234, 10_001])
def test_the_axis_ends_above_the_largest_value_and_not_far(largest: float) -> None:
    text = svg.bars(Plot("", "", ""), {"x": {"one": largest}})
    top = max(float(label.replace(",", "")) for label in said(text)[1:] if label.replace(",", "").replace(".", "").isdigit())
    assert largest * 0.99 <= top <= largest * 4


def test_nothing_measured_is_a_plot_without_shapes() -> None:
    assert not shapes(svg.lines(PLOT, {}), "circle")
    assert shapes(svg.bars(PLOT, {}), "text")
