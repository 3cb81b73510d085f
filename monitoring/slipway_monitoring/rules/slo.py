"""Error budgets over 30 days: alerts on how fast they burn, in two windows each (the SRE workbook's pairs).

The long window says that it matters, the short one that it still goes on: https://sre.google/workbook/alerting-on-slos/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from slipway_monitoring.rules.alert import PERCENT, RELEASE, Alert, Severity
from slipway_monitoring.rules.expressions import bound, increase, rate
from slipway_monitoring.rules.scope import Scope
from slipway_monitoring.rules.thresholds import EVENT_FLOOR, Thresholds

Indicator = Literal["availability", "latency"]
"""Runs that gave an answer (neither `failed` nor `timeout`); turns within `turn_seconds`."""

HOUR = 3600.0

LOWEST_OBJECTIVE = 0.5
"""Below it, more fails than works, and no rate of burning can be told from that."""

HIGHEST_LIMIT = 0.9
"""Share of bad events. A factor of 14.4 on a loose objective asks for more failures than there are events."""


@dataclass(frozen=True, slots=True)
class Slo:
    """`objective` is the share of good events in 30 days, above 0.5 and below 1.

    Raises:
        ValueError: the objective is out of bounds.
    """

    indicator: Indicator
    objective: float

    def __post_init__(self) -> None:
        if not LOWEST_OBJECTIVE < self.objective < 1:
            raise ValueError(f"objective: must be above 0.5 and below 1, not {self.objective:g}")


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair of windows. `factor` is the rate of burning at which the pair alerts: 1 uses the budget up in 30 days."""

    name: str
    severity: Severity
    factor: float
    long: float
    short: float
    hold: float


BURNS = (
    Burn("AgentErrorBudgetBurnFast", "critical", 14.4, HOUR, HOUR / 12, 120),  # 2 % of the budget in 1 h
    Burn("AgentErrorBudgetBurnFast", "critical", 6, 6 * HOUR, HOUR / 2, 900),  # 5 % in 6 h
    Burn("AgentErrorBudgetBurnSlow", "warning", 3, 24 * HOUR, 2 * HOUR, 3600),  # 10 % in a day
    Burn("AgentErrorBudgetBurnSlow", "warning", 1, 72 * HOUR, 6 * HOUR, 3 * HOUR),  # 10 % in 3 days
)


def alerts(slos: tuple[Slo, ...], limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    for slo in slos:
        good, every = _events(slo.indicator, limits, scope)
        for burn in BURNS:
            yield _burning(slo, burn, good, every, scope)


def _events(indicator: Indicator, limits: Thresholds, scope: Scope) -> tuple[str, str]:
    """Series of the good and of all events."""
    if indicator == "latency":
        good = scope.select("agent_turn_duration_seconds_bucket", bound(limits.turn_seconds))
        return good, scope.select("agent_turn_duration_seconds_count")
    return scope.select("agent_runs_total", 'outcome!~"failed|timeout"'), scope.select("agent_runs_total")


def _burning(slo: Slo, burn: Burn, good: str, every: str, scope: Scope) -> Alert:
    limit = min(burn.factor * (1 - slo.objective), HIGHEST_LIMIT)
    long, short = (scope.over(window) for window in (burn.long, burn.short))
    pair = [f"(1 - {rate(good, window)} / {rate(every, window)}) > {limit:.6g}" for window in (long, short)]
    bad = f"({increase(every, long)} - {increase(good, long)})"
    return Alert(
        name=burn.name,
        expr=f"{pair[0]} and {pair[1]} and {bad} >= {EVENT_FLOOR}",
        severity=burn.severity,
        hold=burn.hold,
        keep=300,
        summary=f"{RELEASE}: {slo.indicator} burns its error budget, {PERCENT} of {long} are bad",
        description=f"The objective is {slo.objective * 100:g}%. The budget of 30 days would be gone in {30 / burn.factor:.3g}.",
        dashboard="overview",
        labels={"slo": slo.indicator, "window": long},
    )
