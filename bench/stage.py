"""What a scenario works with: the database server, the model, how long it may measure, and where its figures go."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.database import Postgres
from bench.figures import Figure, Results


@dataclass(frozen=True, slots=True)
class Effort:
    """`seconds`: of one measurement; longer ones of slow servers end with the turns that have begun."""

    name: str
    repetitions: int
    seconds: float
    minutes: float
    """All scenarios together; what is not through by then is named as failed."""


FULL = Effort("full", repetitions=3, seconds=2.0, minutes=15)
QUICK = Effort("quick", repetitions=2, seconds=1.0, minutes=2)


@dataclass(frozen=True, slots=True)
class Stage:
    postgres: Postgres
    model_url: str
    effort: Effort
    results: Results
    started: float

    def record(self, figure: Figure, name: str, *values: float) -> None:
        self.results.record(figure, name, *values)

    def say(self, what: str) -> None:
        """A line of progress."""
        print(f"{time.monotonic() - self.started:5.0f} s  {what}", flush=True)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`seconds`: after which it is ended as failed; three times what it takes on an idle machine, or so."""

    name: str
    what: str
    run: Callable[[Stage], Awaitable[None]]
    seconds: float
    quick: bool = False
    """Whether it belongs to `make bench-quick`."""


async def bounded(scenario: Scenario, stage: Stage, minutes: float) -> None:
    """Runs it within its own time and what is left of all.

    Raises:
        TimeoutError: says which of them is over.
    """
    left = stage.started + 60 * minutes - time.monotonic()
    seconds = min(scenario.seconds, left)
    if seconds <= 0:
        raise TimeoutError(f"it was not begun: {minutes:g} minutes were over")
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await scenario.run(stage)
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"it was not through after {seconds:.0f} s") from None
        raise
