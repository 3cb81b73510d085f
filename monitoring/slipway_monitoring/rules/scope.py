"""What a rule looks at: one release, over windows that tests may shorten."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selector:
    """One release as Prometheus sees it: its namespace, and its name as `job`."""

    namespace: str
    job: str

    def __call__(self, metric: str, *matchers: str) -> str:
        """`metric{namespace="…",job="…",…}`"""
        own = (f"namespace={quoted(self.namespace)}", f"job={quoted(self.job)}")
        return f"{metric}{{{','.join((*own, *matchers))}}}"


@dataclass(frozen=True, slots=True)
class Windows:
    """Ranges and waiting times. `scale` shortens all of them alike: a live test cannot wait for 30 minutes."""

    scale: float = 1.0

    def __call__(self, seconds: float) -> str:
        """As Prometheus writes durations, in the largest unit that is exact."""
        milliseconds = round(seconds * self.scale * 1000)
        for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if milliseconds and milliseconds % size == 0:
                return f"{milliseconds // size}{unit}"
        return f"{milliseconds}ms"


FULL_LENGTH = Windows()


@dataclass(frozen=True, slots=True)
class Scope:
    """What the rules are about: whose series, and how long their windows are."""

    select: Selector
    over: Windows


def quoted(text: str) -> str:
    """A PromQL string literal."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


def none_of(label: str, values: Iterable[str]) -> list[str]:
    """The matcher that leaves `values` out; none when there are none."""
    pattern = "|".join(re.escape(value) for value in sorted(values))
    return [f"{label}!~{quoted(pattern)}"] if pattern else []
