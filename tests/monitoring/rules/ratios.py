"""Cases that every alert on a share of bad events must pass."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.monitoring.rules.history import RELEASE, STEP, Case, Series, Sighting, growing

EACH_SCRAPE = 1000.0
"""Events between two scrapes under load: enough to tell a share just above the limit from one just below."""

MINUTE = 60.0


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
