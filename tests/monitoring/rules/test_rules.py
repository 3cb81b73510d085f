"""Rules as a whole: their thresholds, the release they select, their pages, and the chart's file."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from agent_service.metrics import TURN_BUCKETS, Metrics
from slipway_monitoring.rules import TURN_BOUNDS, Links, Selector, Slo, Thresholds, Windows, render, runbook_page
from tests.monitoring.rules.promtool import promtool
from tools import alert_rules

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
RELEASE = Selector("shop", "bot")


def rules(thresholds: Thresholds | None = None, **options: Any) -> list[dict[str, Any]]:
    every = thresholds or Thresholds(daily_budget_usd=100)
    slos = (Slo("availability", 0.999), Slo("latency", 0.99))
    groups = render(every, **{"selector": RELEASE, "slos": slos, **options})
    return [rule for group in groups for rule in group["rules"]]


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bagent_\w+", text))


SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "info": ("_info",)}


def declared() -> set[str]:
    """Names of the service's series."""
    families = Metrics(models=(), version="", graph="", guardrail_rules=()).registry.collect()
    return {family.name + suffix for family in families for suffix in ("", *SUFFIXES.get(family.type, ()))}


def test_the_chart_s_file_is_up_to_date() -> None:
    assert alert_rules.FILE.read_text(encoding="utf-8") == alert_rules.render_file(), "run: make alerts"


def test_the_latency_alert_knows_the_buckets_of_the_service() -> None:
    assert TURN_BUCKETS[:-1] == TURN_BOUNDS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"turn_seconds": 25}, "turn_seconds: must be a bucket bound"),
        ({"http_error_ratio": 1.5}, "http_error_ratio: is a share"),
        ({"cost_usd_per_hour": 0}, "cost_usd_per_hour: must be above 0"),
        ({"daily_budget_usd": -1}, "daily_budget_usd: must be above 0"),
        ({"tool_failure_ratio_by_tool": {"search": 2}}, r"tool_failure_ratio_by_tool\[search\]: is a share"),
    ],
)
def test_a_wrong_threshold_is_refused_by_its_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Thresholds(**change)


def test_every_selector_names_the_release_and_every_rule_keeps_its_labels() -> None:
    for rule in rules():
        selectors = re.findall(r"\b(?:agent_\w+|up)\{([^}]*)\}", rule["expr"])
        assert selectors
        assert all(selector.startswith('namespace="shop",job="bot"') for selector in selectors), rule["alert"]
        sums = re.findall(r"(?:sum|max|min|count) by \(([^)]*)\)", rule["expr"])
        assert all(labels.startswith("namespace, job") for labels in sums), rule["alert"]


def test_names_of_tools_and_routes_are_escaped(tmp_path: Path) -> None:
    odd = {'say "hi"\\': 0.5, "a.b|c": 0.5, "/runs/{run_id}": 0.5}
    thresholds = Thresholds(tool_failure_ratio_by_tool=odd, http_error_ratio_by_route=odd, rate_limited_ratio_by_model=odd)
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.dump({"groups": render(thresholds, selector=RELEASE)}, Dumper=yaml.CSafeDumper), encoding="utf-8")

    assert "SUCCESS" in promtool("check", "rules", path)


def test_alerts_can_be_left_out_and_labelled() -> None:
    left = rules(without={"AgentKeyTooOld"}, labels={"team": "chat", "severity": "none"})

    assert "AgentKeyTooOld" not in {rule["alert"] for rule in left}
    assert {rule["labels"]["team"] for rule in left} == {"chat"}
    assert {rule["labels"]["severity"] for rule in left} == {"critical", "warning"}


def test_no_two_rules_make_the_same_alert() -> None:
    own = {"a": 0.1, "b": 0.2}
    thresholds = Thresholds(http_error_ratio_by_route=own, tool_failure_ratio_by_tool=own, rate_limited_ratio_by_model=own)
    seen = [(rule["alert"], tuple(rule["labels"].items())) for rule in rules(thresholds)]

    assert len(seen) == len(set(seen))


def test_windows_shrink_together() -> None:
    short = Windows(1 / 100)

    assert [short(60), short(300), short(900), Windows()(86_400), Windows()(5400)] == ["600ms", "3s", "9s", "1d", "90m"]


def test_links_lead_to_runbook_and_dashboard() -> None:
    links = Links(runbooks="https://docs.example/runbooks/", grafana="https://grafana.example")
    annotations = rules(links=links)[0]["annotations"]

    assert annotations["runbook_url"] == "https://docs.example/runbooks/agent-turn-latency-high.md"
    assert annotations["runbook"] == "docs/runbooks/agent-turn-latency-high.md"
    assert annotations["dashboard_url"] == "https://grafana.example/d/slipway-overview?var-namespace=shop&var-job=bot"


def test_without_an_address_of_runbooks_an_alert_has_no_link_that_leads_nowhere() -> None:
    assert not any("runbook_url" in rule["annotations"] for rule in rules(links=Links()))


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    alerts = {rule["alert"] for rule in rules()}

    assert {page.name for page in PAGES} == {runbook_page(alert) for alert in alerts}
    assert {page.read_text(encoding="utf-8").splitlines()[0] for page in PAGES} == {f"# {alert}" for alert in alerts}


def test_the_list_of_alerts_is_complete_and_says_their_severity_and_time() -> None:
    page = (ROOT / "docs/operations/alerts.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[(\w+)\]\S* \| (\w+) \|", page, re.MULTILINE))
    times = {name: {*time.split(", ")} for name, time in re.findall(r"^\| \[(\w+)\].*\| ([^|]*) \|$", page, re.MULTILINE)}

    assert listed == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    assert times == {alert: {rule.get("for", "") for rule in rules() if rule["alert"] == alert} for alert in listed}


def test_queries_of_the_runbooks_parse_and_name_metrics_that_exist(tmp_path: Path) -> None:
    queries = [
        {"record": f"runbook:{page.stem.replace('-', '_')}", "expr": token.content}
        for page in PAGES
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8"))
        if token.type == "fence" and token.info == "promql"
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.dump({"groups": [{"name": "runbooks", "rules": queries}]}, Dumper=yaml.CSafeDumper), encoding="utf-8")
    named = {name for page in PAGES for name in metric_names(page.read_text(encoding="utf-8"))}

    assert len(queries) == len(PAGES)
    assert "SUCCESS" in promtool("check", "rules", path)
    assert named - declared() == set()
    assert {name for rule in rules() for name in metric_names(rule["expr"])} - declared() == set()


def test_runbooks_name_panels_of_the_dashboards() -> None:
    shipped = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "charts/slipway/files/dashboards").glob("*.json"))
    missing = {
        (page.name, panel)
        for page in PAGES
        for panel in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page.read_text(encoding="utf-8"))
        if f'"title": "{panel}"' not in shipped
    }

    assert missing == set()
