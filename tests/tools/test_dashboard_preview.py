"""The preview, without the programs that it starts."""

import itertools
import math
import re
from collections.abc import Callable

import httpx
import pytest

from slipway_monitoring.dashboards.reading import METRIC, Json, panels
from tests.monitoring.dashboards.shipped import DASHBOARDS, QUERIES
from tools.dashboard_preview import page, traffic, units
from tools.dashboard_preview.prometheus import Api

SPAN = page.Span(1000.0, 1120.0, 30.0)
LABELS = {"namespace": "support", "job": "assistant", "pod": "assistant-1", "model": "<gpt>", "le": "1.0"}


def answer(request: httpx.Request) -> httpx.Response:
    """One series of everything, with a hole in it."""
    over_time = request.url.path.endswith("query_range")
    values = [[1000.0, "1"], [1030.0, "NaN"], [1060.0, "3"], [1090.0, "2"]]
    series = {"metric": LABELS, "values": values} if over_time else {"metric": LABELS, "value": values[-1]}
    return httpx.Response(200, json={"status": "success", "data": {"result": [series]}})


def silent(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": {"result": []}})


def api(handler: Callable[[httpx.Request], httpx.Response]) -> Api:
    return Api(httpx.Client(base_url="http://prometheus", transport=httpx.MockTransport(handler)))


def tables_apart(dashboard: Json) -> Json:
    """The same without tables, whose columns depend on the labels of the answer."""
    return {**dashboard, "panels": [panel for panel in dashboard["panels"] if panel["type"] != "table"]}


@pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
def test_every_panel_is_drawn_at_its_place(dashboard: Json) -> None:
    drawn = tables_apart(dashboard)
    html, empty = page.render(drawn, api(answer), SPAN)

    assert empty == []
    assert html.count("<section ") == len([*panels(drawn)])
    assert "<gpt>" not in html, "labels are escaped"
    assert not re.search(r"\bnan\b|\binf\b", html)


def test_panels_without_data_are_named() -> None:
    dashboard = DASHBOARDS["slipway-overview"]
    html, empty = page.render(dashboard, api(silent), SPAN)

    assert empty == [panel["title"] for panel in panels(dashboard)]
    assert html.count('class="empty"') == len(empty)


def test_the_made_up_traffic_has_every_metric_that_is_read() -> None:
    exported = {
        sample.name
        for _, _, families in itertools.islice(traffic.scrapes(0.0), 6)
        for family in families
        for sample in family.samples
    }
    read = {name for query in QUERIES for name in METRIC.findall(query.expr)}

    assert read - exported == {"ALERTS", "up"}


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "shown"),
    [
        (0.05, "percentunit", 1, "5.0%"),
        (12.34, "s", None, "12.3 s"),
        (0.0123, "s", None, "12.3 ms"),
        (93600.0, "s", 1, "1.1 days"),
        (50.0, "currencyUSD", 2, "$50.00"),
        (2**30 * 1.5, "bytes", None, "1.50 GiB"),
        (0.0, "reqps", None, "0 req/s"),
        (math.nan, "short", None, "no traffic"),
    ],
)
def test_numbers_are_printed_as_grafana_does(value: float, unit: str, decimals: int | None, shown: str) -> None:
    assert units.text(value, unit, decimals) == shown
