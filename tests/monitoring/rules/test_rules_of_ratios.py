"""Every alert on a share of bad events, by Prometheus' own test runner, on the same cases."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slipway_monitoring.rules import Thresholds
from tests.monitoring.rules.history import (
    MINUTE,
    RELEASE,
    STEP,
    TURNS,
    Case,
    Series,
    Sighting,
    growing,
    http,
    requests,
    resumes,
    runs,
    tool,
    turns_within,
)
from tests.monitoring.rules.promtool import run_cases

pytestmark = pytest.mark.slow

EACH_SCRAPE = 1000.0
"""Events between two scrapes under load: enough to tell a share just above the limit from one just below."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """An alert on a share. A bad event counts in each series of `bad`, a good one in each of `good`; times in seconds."""

    alert: str
    bad: tuple[Series, ...]
    good: tuple[Series, ...]
    limit: float
    window: float
    hold: float
    keep: float
    summary: str
    """Ends with what follows the share: `{} of turns …`."""
    labels: dict[str, str] = field(default_factory=dict)

    def cases(self) -> Iterator[Case]:
        yield self._steady("fires just above the limit", self.limit + 1 / EACH_SCRAPE, fires=True)
        yield self._steady("is silent just below the limit", self.limit - 1 / EACH_SCRAPE, fires=False)
        yield self._burst("fires when 5 of 5 fail", 5, fires=True)
        yield self._burst("is silent when 4 of 4 fail", 4, fires=False)
        yield self._resolving()
        yield self._elsewhere()

    def _seen(self, at: float, share: float) -> Sighting:
        shown = f"{float(f'{share * 100:.4g}'):g}%"
        return Sighting(at, {**RELEASE, **self.labels}, f"shop/bot: {self.summary.format(shown)}")

    def _values(self, bad: list[tuple[float, float]], good: list[tuple[float, float]], **labels: str) -> dict[str, list[float]]:
        kinds = [(self.bad, growing(*bad)), (self.good, growing(*good))]
        series = dict.fromkeys([each for members, _ in kinds for each in members])
        return {
            str(each.on(**labels)): [sum(sample) for sample in zip(*[v for members, v in kinds if each in members], strict=True)]
            for each in series
        }

    def _steady(self, title: str, share: float, *, fires: bool) -> Case:
        seconds = self.window + self.hold + 5 * MINUTE
        values = self._values([(EACH_SCRAPE * share, seconds)], [(EACH_SCRAPE * (1 - share), seconds)])
        return Case(self.alert, title, values, [self._seen(seconds, share) if fires else Sighting(seconds)])

    def _burst(self, title: str, events: int, *, fires: bool) -> Case:
        before = self.window + MINUTE
        burst = events * STEP
        after = max(self.hold, MINUTE) + self.window
        bad = [(0.0, before), (1.0, burst), (0.0, after)]
        at = before + burst + max(self.hold, STEP) + STEP
        values = self._values(bad, [(0.0, before + burst + after)])
        return Case(self.alert, title, values, [self._seen(at, 1.0) if fires else Sighting(at)])

    def _resolving(self) -> Case:
        failing = self.window + self.hold + MINUTE
        well = self.window + self.keep + 5 * MINUTE
        values = self._values([(EACH_SCRAPE, failing), (0.0, well)], [(0.0, failing), (EACH_SCRAPE, well)])
        return Case(self.alert, "resolves", values, [self._seen(failing, 1.0), Sighting(failing + well)])

    def _elsewhere(self) -> Case:
        """Another release of the same name, and another of the same namespace."""
        seconds = self.window + self.hold + 5 * MINUTE
        values = self._values([(EACH_SCRAPE, seconds)], [(0.0, seconds)], namespace="elsewhere")
        values |= self._values([(EACH_SCRAPE, seconds)], [(0.0, seconds)], job="neighbour")
        return Case(self.alert, "is silent about other releases", values, [Sighting(seconds)])


RATIOS = (
    Ratio(
        "AgentTurnLatencyHigh",
        bad=(TURNS, turns_within("45.0")),
        good=(TURNS, turns_within("45.0"), turns_within("30.0")),
        limit=0.01,
        window=10 * MINUTE,
        hold=5 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of turns take longer than 30 s",
    ),
    Ratio(
        "AgentHttpErrorsHigh",
        bad=(http("503"),),
        good=(http("200"),),
        limit=0.05,
        window=5 * MINUTE,
        hold=2 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of HTTP requests are answered with 5xx",
    ),
    Ratio(
        "AgentRunsFailing",
        bad=(runs("failed"),),
        good=(runs("completed"),),
        limit=0.05,
        window=10 * MINUTE,
        hold=2 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of runs end as failed or timeout",
    ),
    Ratio(
        "AgentStreamGaps",
        bad=(resumes("gap"),),
        good=(resumes("log"),),
        limit=0.05,
        window=30 * MINUTE,
        hold=0,
        keep=15 * MINUTE,
        summary="{} of reconnecting streams have lost events",
    ),
    Ratio(
        "AgentToolFailuresHigh",
        bad=(tool("error"),),
        good=(tool("ok"),),
        limit=0.10,
        window=10 * MINUTE,
        hold=5 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of the calls of tool search fail",
        labels={"tool": "search"},
    ),
    Ratio(
        "AgentIterationLimitHigh",
        bad=(runs("iteration_limit"),),
        good=(runs("completed"),),
        limit=0.01,
        window=30 * MINUTE,
        hold=5 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of runs stop at the iteration limit",
    ),
    Ratio(
        "AgentModelEndpointFailing",
        bad=(requests("server_error"),),
        good=(requests("ok"),),
        limit=0.20,
        window=5 * MINUTE,
        hold=2 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of the requests to model gpt fail",
        labels={"model": "gpt"},
    ),
    Ratio(
        "AgentModelRateLimited",
        bad=(requests("rate_limited"),),
        good=(requests("ok"),),
        limit=0.05,
        window=10 * MINUTE,
        hold=5 * MINUTE,
        keep=5 * MINUTE,
        summary="{} of the requests to model gpt are rate limited",
        labels={"model": "gpt"},
    ),
)
"""With the default thresholds."""


def ratio_cases() -> Iterator[Case]:
    """Of every alert."""
    for ratio in RATIOS:
        yield from ratio.cases()


def test_every_alert_on_a_share_fires_just_above_its_limit_and_for_this_release_only(tmp_path: Path) -> None:
    run_cases(tmp_path, ratio_cases(), thresholds=Thresholds())
