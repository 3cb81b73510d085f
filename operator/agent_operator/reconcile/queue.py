"""A queue of keys: each key at most once, and never by two workers at a time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog

from agent_operator.clock import Clock

log = structlog.stdlib.get_logger(__name__)

FIRST_BACKOFF = 1.0
"""Seconds after the first failure of a key; each further failure doubles it."""

LONGEST_BACKOFF = 300.0
"""Seconds: a cluster that was ill for an hour is seen well again within five minutes."""


class Key(NamedTuple):
    kind: str
    namespace: str
    name: str


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Seconds until the key is due again; None to wait for an event."""


class WorkQueue:
    """A key that is added while its worker is at it comes round once more afterwards."""

    def __init__(self, reconcile: Reconcile, clock: Clock, *, workers: int = 4) -> None:
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._timers: dict[Key, asyncio.Task[None]] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        """Keys that are due and have no worker yet."""
        return len(self._waiting)

    def add(self, key: Key) -> None:
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._active:
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Replaces an earlier timer of the key."""
        self._stop_timer(key)
        self._timers[key] = asyncio.get_running_loop().create_task(self._add_later(key, seconds))

    async def idle(self) -> None:
        """Returns when no key is due or at work; timers may be running."""
        await self._ready.join()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Workers that end with the block: a reconcile under way is cancelled at its next await."""
        tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        try:
            yield
        finally:
            tasks += self._timers.values()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._active.add(key)
            try:
                await self._attend(key)
            finally:
                self._active.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)
                self._ready.task_done()

    async def _attend(self, key: Key) -> None:
        self._stop_timer(key)
        try:
            due = await self._reconcile(key)
        except Exception:  # whatever it is, the other objects are still attended to
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            due = backoff(failures)
            log.debug("reconcile_retried", **key._asdict(), failures=failures, retry_seconds=round(due, 1), exc_info=True)
        else:
            self._failures.pop(key, None)
        if due is not None:
            self.add_after(key, due)

    async def _add_later(self, key: Key, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timers.pop(key, None)
        self.add(key)

    def _stop_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, capped, and spread by a fifth."""
    whole = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))
    return whole * random.uniform(0.8, 1.0)  # noqa: S311  # spreads load, guards nothing
