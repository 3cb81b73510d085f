"""What Prometheus has scraped, minute by minute, as promtool's unit tests take it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

RELEASE = {"namespace": "shop", "job": "bot"}
POD = {
    **RELEASE,
    "pod": "bot-1",
    "instance": "10.0.0.1:9090",
    "endpoint": "ops",
    "service": "bot-slipway-ops",
    "container": "agent",
}

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR

STEP = 15.0
"""Seconds between two scrapes."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series; `labels` change or add to those of the pod `bot-1`."""

    metric: str
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ",".join(f'{name}="{value}"' for name, value in {**POD, **self.labels}.items())
        return f"{self.metric}{{{labels}}}"

    def __hash__(self) -> int:
        return hash(str(self))

    def on(self, **labels: str) -> "Series":
        return Series(self.metric, {**self.labels, **labels})


@dataclass(frozen=True, slots=True)
class Sighting:
    """What must be seen `at` so many seconds: alerts with these labels and summary, or none."""

    at: float
    labels: dict[str, str] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """`values` holds a sample for each `step` seconds."""

    alert: str
    title: str
    values: dict[str, list[float]]
    seen: Sequence[Sighting]
    step: float = STEP


def phases(*parts: tuple[float, float], step: float = STEP) -> list[float]:
    """A value for so many seconds, then the next: (value, seconds), …"""
    return [value for value, seconds in parts for _ in range(round(seconds / step))]


def counter(increments: Iterable[float]) -> list[float]:
    """The samples of a counter that begins at 0 and grows by these."""
    return [0.0, *accumulate(increments)]


def growing(*parts: tuple[float, float], step: float = STEP) -> list[float]:
    """A counter that grows by so much with each scrape, for so many seconds."""
    return counter(phases(*parts, step=step))


def http(code: str) -> Series:
    return Series("agent_http_requests_total", {"method": "POST", "route": "/chat", "code": code})


def runs(outcome: str) -> Series:
    return Series("agent_runs_total", {"outcome": outcome})


def requests(status: str) -> Series:
    return Series("agent_llm_requests_total", {"model": "gpt", "status": status})


def tool(status: str, name: str = "search") -> Series:
    return Series("agent_tool_calls_total", {"tool": name, "status": status})


def resumes(result: str) -> Series:
    return Series("agent_stream_resumes_total", {"result": result})


def turns_within(bound: str) -> Series:
    return Series("agent_turn_duration_seconds_bucket", {"le": bound})


TURNS = Series("agent_turn_duration_seconds_count")


def gauge(alert: str, title: str, series: dict[Series, list[float]], *seen: Sighting, step: float = MINUTE) -> Case:
    return Case(alert, title, {str(each): values for each, values in series.items()}, seen, step)


def of_release(at: float, summary: str, **labels: str) -> Sighting:
    return Sighting(at, {**RELEASE, **labels}, f"shop/bot: {summary}")


def steady(value: float, seconds: float) -> list[float]:
    """From 0 to `seconds`, with a sample each minute."""
    return phases((value, seconds + MINUTE), step=MINUTE)


def rising_then_falling(high: float, low: float, seconds: float) -> list[float]:
    return phases((high, seconds), (low, seconds + MINUTE), step=MINUTE)
