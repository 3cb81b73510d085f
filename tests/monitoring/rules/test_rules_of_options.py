"""Alerts on what is off or the same for all by default: limits of one tool, route or model, a budget, objectives."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway_monitoring.rules import Slo, Thresholds
from tests.monitoring.rules.history import (
    DAY,
    HOUR,
    MINUTE,
    TURNS,
    Case,
    Series,
    Sighting,
    gauge,
    growing,
    http,
    of_release,
    requests,
    runs,
    tool,
    turns_within,
)
from tests.monitoring.rules.promtool import run_cases

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Options:
    thresholds: Thresholds
    slos: tuple[Slo, ...]
    cases: tuple[Case, ...]


def options() -> Iterator[Options]:
    yield Options(Thresholds(tool_failure_ratio_by_tool={"shaky": 0.5}), (), tuple(_tools()))
    yield Options(Thresholds(http_error_ratio_by_route={"/runs/{run_id}": 0.5}), (), tuple(_routes()))
    yield Options(Thresholds(rate_limited_ratio_by_model={"slow-4.1": 0.5}), (), tuple(_models()))
    yield Options(Thresholds(daily_budget_usd=100), (), tuple(_budget()))
    yield Options(Thresholds(), (Slo("availability", 0.99), Slo("latency", 0.99)), tuple(_burning()))


def mixed(bad: Series, good: Series, share: float) -> dict[Series, list[float]]:
    """100 events a minute for an hour."""
    return {bad: growing((100 * share, HOUR), step=MINUTE), good: growing((100 * (1 - share), HOUR), step=MINUTE)}


def _tools() -> Iterator[Case]:
    name = "AgentToolFailuresHigh"
    shaky, steady_one = mixed(tool("error", "shaky"), tool("ok", "shaky"), 0.4), mixed(tool("error"), tool("ok"), 0.4)
    seen = of_release(HOUR, "40% of the calls of tool search fail", tool="search")
    yield gauge(name, "fires for the tool without a limit of its own only", shaky | steady_one, seen)
    worse = mixed(tool("error", "shaky"), tool("ok", "shaky"), 0.6)
    seen = of_release(HOUR, "60% of the calls of tool shaky fail", tool="shaky")
    yield gauge(name, "fires once above the tool's own limit", worse, seen)


def _routes() -> Iterator[Case]:
    name, route = "AgentHttpErrorsHigh", {"route": "/runs/{run_id}"}
    bad, good = http("500").on(**route), http("200").on(**route)
    yield gauge(name, "is silent below the route's own limit", mixed(bad, good, 0.4), Sighting(HOUR))
    seen = of_release(HOUR, "60% of requests to /runs/{run_id} are answered with 5xx", **route)
    yield gauge(name, "fires once above the route's own limit", mixed(bad, good, 0.6), seen)
    seen = of_release(HOUR, "10% of HTTP requests are answered with 5xx")
    yield gauge(name, "fires for the other routes", mixed(http("500"), http("200"), 0.1) | mixed(bad, good, 0.4), seen)


def _models() -> Iterator[Case]:
    name, model = "AgentModelRateLimited", {"model": "slow-4.1"}
    bad, good = requests("rate_limited").on(**model), requests("ok").on(**model)
    yield gauge(name, "is silent below the model's own limit", mixed(bad, good, 0.4), Sighting(HOUR))
    seen = of_release(HOUR, "60% of the requests to model slow-4.1 are rate limited", **model)
    yield gauge(name, "fires once above the model's own limit", mixed(bad, good, 0.6), seen)


def _budget() -> Iterator[Case]:
    name, spent, step = "AgentBudgetNearlySpent", Series("agent_cost_usd_total", {"model": "gpt"}), 5 * MINUTE
    day_and_rest = growing((90 / 288, DAY), (0, DAY + HOUR), step=step)
    seen = of_release(DAY, "90% of the daily budget of 100 USD is spent")
    yield gauge(
        name, "fires at 80 % of the budget, and resolves a day later", {spent: day_and_rest}, seen, Sighting(2 * DAY), step=step
    )
    less = growing((70 / 288, DAY), step=step)
    yield gauge(name, "is silent at 70 % of the budget", {spent: less}, Sighting(DAY), step=step)


def _burning() -> Iterator[Case]:
    yield from _fast()
    yield from _slow()


def _fast() -> Iterator[Case]:
    name, bad, good = "AgentErrorBudgetBurnFast", runs("failed"), runs("completed")
    share = mixed(bad, good, 0.2)
    summary = "availability burns its error budget, 20% of {} are bad"
    seen = [of_release(HOUR, summary.format(each), slo="availability", window=each) for each in ("1h", "6h")]
    yield gauge(name, "fires when 20 % fail for an hour", share, *seen)
    yield gauge(name, "is silent when the objective is met", mixed(bad, good, 0.005), Sighting(HOUR))
    four = growing((0, HOUR), (1, 4 * MINUTE), (0, HOUR), step=MINUTE)
    yield gauge(name, "is silent when 4 of 4 fail", {bad: four}, Sighting(HOUR + 6 * MINUTE))
    burst = growing((30, HOUR), (0, HOUR), step=MINUTE), growing((70, HOUR), (100, HOUR), step=MINUTE)
    summary = "availability burns its error budget, 30% of {} are bad"
    seen = [of_release(HOUR, summary.format(each), slo="availability", window=each) for each in ("1h", "6h")]
    yield gauge(name, "resolves when the failing has ended", {bad: burst[0], good: burst[1]}, *seen, Sighting(2 * HOUR))


def _slow() -> Iterator[Case]:
    name, step, within = "AgentErrorBudgetBurnSlow", 30 * MINUTE, turns_within("30.0")
    days = {TURNS: growing((1000, 6 * DAY), step=step), within: growing((960, 4 * DAY), (1000, 2 * DAY), step=step)}
    summary = "latency burns its error budget, 4% of {} are bad"
    seen = [of_release(4 * DAY, summary.format(each), slo="latency", window=each) for each in ("1d", "3d")]
    yield gauge(name, "fires when 4 % are slow for days, and resolves", days, *seen, Sighting(5 * DAY), step=step)
    well = {TURNS: growing((1000, 4 * DAY), step=step), within: growing((995, 4 * DAY), step=step)}
    yield gauge(name, "is silent at half of the budget", well, Sighting(4 * DAY), step=step)


@pytest.mark.parametrize("option", [*options()], ids=lambda option: option.cases[0].alert)
def test_an_alert_of_an_option_fires_when_it_should_and_only_then(tmp_path: Path, option: Options) -> None:
    run_cases(tmp_path, option.cases, thresholds=option.thresholds, slos=option.slos)
