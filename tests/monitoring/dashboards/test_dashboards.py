"""What is shipped is what the code says, and what the alerts say."""

from dataclasses import fields
from typing import Any

import pytest

from slipway_monitoring.dashboards.frame import DashboardSpec
from slipway_monitoring.dashboards.panels import RUNBOOKS
from slipway_monitoring.dashboards.reading import Json, panels
from slipway_monitoring.rules.alert import runbook_page
from slipway_monitoring.rules.operator_rules import render_operator
from slipway_monitoring.rules.render import render
from slipway_monitoring.rules.scope import Selector
from slipway_monitoring.rules.thresholds import Thresholds
from tests.monitoring.dashboards.shipped import DASHBOARDS, PANELS, PATHS
from tools.dashboards import specs

UIDS = {"slipway-overview", "slipway-cost-quality", "slipway-tools-nodes", "slipway-rollouts-keys", "slipway-operator"}
DRAWN = {
    "slow turns": ({"turn_seconds": 45.0}, 45.0),
    "HTTP errors": ({"http_error_ratio": 0.42}, 0.42),
    "failing runs": ({"run_failure_ratio": 0.42}, 0.42),
    "cost": ({"cost_usd_per_hour": 7.5}, 7.5),
    "tools": ({"tool_failure_ratio": 0.42}, 0.42),
    "iteration limit": ({"iteration_limit_ratio": 0.042}, 0.042),
    "rate limits": ({"rate_limited_ratio": 0.42}, 0.42),
    "model endpoint": ({"model_failure_ratio": 0.42}, 0.42),
    "stream gaps": ({"stream_gap_ratio": 0.42}, 0.42),
    "pool": ({"pool_ratio": 0.42}, 0.42),
    "queue": ({"queue_ratio": 0.42}, 0.42),
    "event loop": ({"loop_lag_seconds": 4.2}, 4.2),
    "crashes": ({"crash_recoveries": 42.0}, 42.0),
    "key age": ({"key_age_days": 2.0}, 172800.0),
}
"""A threshold of the alerts, and the line that a panel then draws."""


def built(limits: Thresholds) -> dict[str, DashboardSpec]:
    return {path.stem: spec for path, spec in specs(limits).items()}


def lines(dashboard: Json) -> set[float]:
    steps = [
        step
        for panel in panels(dashboard)
        for where in (panel["fieldConfig"]["defaults"], *(_overridden(panel)))
        for step in where.get("thresholds", {}).get("steps", ())
    ]
    return {step["value"] for step in steps if step["value"] is not None}


def _overridden(panel: Json) -> list[Json]:
    values = [value for override in panel["fieldConfig"]["overrides"] for value in override["properties"]]
    return [{"thresholds": each["value"]} for each in values if each["id"] == "thresholds"]


def alerts() -> dict[str, str]:
    """Name to the dashboard that the alert's link opens."""
    groups = render(Thresholds(daily_budget_usd=100.0), selector=Selector("ns", "agent"))
    groups += render_operator(selector=Selector("ns", "operator"))
    rules = [rule for group in groups for rule in group["rules"]]
    return {rule["alert"]: rule["annotations"]["dashboard_url"].split("?")[0].removeprefix("/d/") for rule in rules}


def test_the_shipped_files_are_the_generated_ones() -> None:
    assert {path.stem for path in PATHS} == UIDS
    for path, spec in specs(Thresholds()).items():
        assert path.read_text(encoding="utf-8") == spec.render(), "run: make dashboards"


@pytest.mark.parametrize(("changed", "line"), DRAWN.values(), ids=DRAWN)
def test_panels_draw_the_thresholds_of_the_alerts(changed: dict[str, Any], line: float) -> None:
    before = {value for dashboard in DASHBOARDS.values() for value in lines(dashboard)}
    after = {value for spec in built(Thresholds(**changed)).values() for value in lines(spec.as_json())}

    assert line not in before
    assert line in after


def test_every_threshold_that_is_one_number_is_drawn() -> None:
    tested = {name for changed, _ in DRAWN.values() for name in changed}
    # A share of a share, sums over a day, and durations that `for:` waits out.
    elsewhere = {"slow_turn_ratio", "daily_budget_usd", "budget_ratio", "key_spread_seconds", "drain_grace_seconds"}

    assert {each.name for each in fields(Thresholds) if "_by_" not in each.name} == tested | elsewhere


def test_an_alerts_link_opens_a_dashboard_with_its_panel() -> None:
    for alert, uid in alerts().items():
        watching = [panel for panel in panels(DASHBOARDS[uid]) if alert in panel["description"]]
        assert watching, f"{uid} has no panel for {alert}"


def test_a_panel_links_to_the_runbook_of_each_alert_that_it_names() -> None:
    named = set()
    for panel in PANELS.values():
        links = {link["title"]: link["url"] for link in panel.get("links") or ()}
        for title, url in links.items():
            alert = title.removeprefix("Runbook ")
            assert url == f"{RUNBOOKS}/{runbook_page(alert)}"
            assert alert in panel["description"]
            named.add(alert)

    assert named == {*alerts()}


def test_a_panels_id_does_not_depend_on_its_neighbours() -> None:
    spec = built(Thresholds())["slipway-overview"]
    shorter = DashboardSpec(spec.uid, spec.title, spec.description, spec.rows[1:])
    ids = {panel["title"]: panel["id"] for panel in panels(spec.as_json())}

    assert {panel["title"]: panel["id"] for panel in panels(shorter.as_json())}.items() <= ids.items()
