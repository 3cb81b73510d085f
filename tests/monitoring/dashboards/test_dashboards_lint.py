"""The rules of Grafana's dashboard-linter, and some of our own, without exclusions."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from slipway_monitoring.dashboards.reading import METRIC, SELECTOR, Json, PanelQuery, fill, panels
from tests.monitoring.dashboards.shipped import DASHBOARDS, PANELS, QUERIES

COUNTER = re.compile(r"\w+_(?:total|count|sum|bucket)(?=\{)")
EVERY_DASHBOARD = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
EVERY_PANEL = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)


def variable(dashboard: Json, name: str) -> Json:
    (found,) = [each for each in dashboard["templating"]["list"] if each["name"] == name]
    return dict(found)


def complaints(about: str) -> list[PanelQuery]:
    """Queries in which the pattern occurs."""
    return [query for query in QUERIES if re.search(about, query.expr)]


@EVERY_DASHBOARD
def test_a_dashboard_is_not_editable_and_named_by_its_file(dashboard: Json) -> None:
    assert dashboard["editable"] is False
    assert DASHBOARDS[dashboard["uid"]] is dashboard
    assert dashboard["title"].startswith("Slipway / ")
    assert dashboard["description"]


@EVERY_DASHBOARD
def test_the_data_source_is_a_variable_and_everything_reads_it(dashboard: Json) -> None:
    assert variable(dashboard, "datasource")["query"] == "prometheus"
    sources = [panel["datasource"]["uid"] for panel in panels(dashboard)]
    sources += [target["datasource"]["uid"] for panel in panels(dashboard) for target in panel["targets"]]
    sources += [mark["datasource"]["uid"] for mark in dashboard["annotations"]["list"] or ()]
    sources += [each["datasource"]["uid"] for each in dashboard["templating"]["list"] if each["type"] == "query"]

    assert set(sources) == {"$datasource"}


@EVERY_DASHBOARD
@pytest.mark.parametrize("name", ["namespace", "job", "pod"])
def test_a_selection_is_multiple_and_all_of_it_is_at_least_one_character(dashboard: Json, name: str) -> None:
    choice = variable(dashboard, name)

    assert (choice["multi"], choice["includeAll"], choice["allValue"]) == (True, True, ".+")
    assert choice["refresh"] == 2, "read again when the time range changes: pods come and go"
    assert f", {name})" in choice["query"]["query"]


@EVERY_PANEL
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: Json) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert all(target["legendFormat"] and target["expr"] for target in panel["targets"])


def test_panels_have_ids_and_titles_of_their_own() -> None:
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        titles = [panel["title"] for panel in dashboard["panels"]]

        assert len({*ids}) == len(ids) == len({*titles})


@EVERY_DASHBOARD
def test_panels_fill_their_rows_and_do_not_overlap(dashboard: Json) -> None:
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(cells) == len({*cells}) == 24 * (max(y for _, y in cells) + 1)


def test_every_selector_uses_the_selection() -> None:
    for query in QUERIES:
        selectors = SELECTOR.findall(query.expr)
        assert selectors
        for metric, matchers in selectors:
            # The operator's objects live in other namespaces than itself.
            assert re.search(r'namespace=~"\$(?:object_)?namespace"', matchers), query
            assert 'job=~"$job"' in matchers, query
            # What a rule or the whole release says has no pod.
            whole = metric == "ALERTS" or query.panel == "Alerts firing"
            assert ('pod=~"$pod"' in matchers) is not whole, query


def test_what_every_process_exports_is_read_of_our_releases_only() -> None:
    for query in complaints(r"\b(?:process_\w+|up)\{"):
        assert re.search(r" and on \(namespace, job\) .*(?:agent|slipway_operator)_build_info\{", query.expr), query


def test_no_metric_is_read_without_a_selector() -> None:
    assert complaints(r"\b(?:agent|process|slipway_operator)_\w+(?![\w{])") == []


def test_rates_use_grafanas_interval_and_totals_the_chosen_range() -> None:
    windows = {window for query in QUERIES for window in re.findall(r"\brate\([^)]*?\[([^\]]+)\]", query.expr)}
    totals = {window for query in QUERIES for window in re.findall(r"\bincrease\([^)]*?\[([^\]]+)\]", query.expr)}

    assert windows <= {"$__rate_interval", "$__range"}
    assert totals <= {"$__range", "1h", "1d"}  # a day of thumbs, as the alert on them has it
    assert {query.panel for query in complaints(r"\brate\([^)]*\[\$__range\]")} == {"Every tool"}, "a table has no course"


def test_a_counter_is_read_as_a_rate_only() -> None:
    for query in QUERIES:
        rated = re.findall(r"(?:rate|increase)\((\w+)(?=\{)", query.expr)
        assert sorted(COUNTER.findall(query.expr)) == sorted(name for name in rated if COUNTER.match(f"{name}{{")), query


def test_no_quantile_is_averaged_and_each_is_taken_over_the_sum_of_buckets() -> None:
    assert complaints(r"avg[^(]*\((?:[^)]*)histogram_quantile") == []
    for query in complaints("histogram_quantile"):
        assert re.match(r"histogram_quantile\(0\.\d+, sum by \(namespace, job, (?:\w+, )?le\) \(rate\(", query.expr), query


def test_sums_keep_the_release() -> None:
    assert complaints(r"\b(?:sum|min|max|avg|count|group)\s*\(") == []
    for query in QUERIES:
        for labels in re.findall(r"\b(?:sum|min|max|avg|count|group) by \(([^)]*)\)", query.expr):
            # A heatmap of two releases would put one's buckets over the other's.
            assert labels.startswith("namespace, job") or query.expr.startswith("sum by (le) (rate("), query


def test_latencies_show_exemplars() -> None:
    with_them = {panel["title"] for panel in PANELS.values() if any(t.get("exemplar") for t in panel["targets"])}

    assert {"Turn duration", "Turn durations", "Time to first word", "Tool latency (p95)", "Model latency (p95)"} <= with_them


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool (Debian: prometheus)")
    rules = [
        {"record": f"query:{number}", "expr": fill(query.expr, rate_interval="2m", time_range="1h")}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.dump({"groups": [{"name": "dashboards", "rules": rules}]}, Dumper=yaml.CSafeDumper), encoding="utf-8")

    checked = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(METRIC.search(query.expr) for query in QUERIES)
