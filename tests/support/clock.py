"""Clocks that move when told to."""

import asyncio
from datetime import UTC, datetime, timedelta


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class WallClock:
    """`slipway_clients.clock.Clock` by hand: whoever sleeps wakes when the time is moved past that moment."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + timedelta(seconds=seconds), future))
        await future

    def pass_by(self, seconds: float) -> None:
        """Moves the time and nobody's sleep: for code that only looks at the clock."""
        self._now += timedelta(seconds=seconds)

    async def advance(self, seconds: float) -> None:
        """Moves the time from one sleeper's moment to the next, and lets what they do come to rest in between."""
        end = self._now + timedelta(seconds=seconds)
        await settle()
        while due := self._next(end):
            moment, future = due
            self._now = max(self._now, moment)
            if not future.done():
                future.set_result(None)
            await settle()
        self._now = end

    def _next(self, end: datetime) -> tuple[datetime, asyncio.Future[None]] | None:
        self._sleepers = [each for each in self._sleepers if not each[1].done()]
        return min((each for each in self._sleepers if each[0] <= end), key=lambda each: each[0], default=None)


async def settle() -> None:
    """Lets tasks that wait for nothing but each other run until they rest."""
    for _ in range(50):
        await asyncio.sleep(0)
