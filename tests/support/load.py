"""Readers who ask again and again while something breaks, and the count of what they got."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import httpx

from tests.support.reader import Reader


@dataclass
class Tally:
    """What came of many streams."""

    readers: list[Reader] = field(default_factory=list)

    def line(self, scenario: str, expected: Callable[[Reader], Sequence[str]]) -> tuple[str, dict[str, int]]:
        """The summary, and its counts."""
        answered = [reader for reader in self.readers if reader.outcome == "completed"]
        wanted, lost, doubled = 0, 0, 0
        for reader in answered:
            want, got = Counter(expected(reader)), Counter(reader.text.split())
            wanted += want.total()
            lost += (want - got).total()
            doubled += (got - want).total()
        counts = {
            "streams": len(self.readers),
            "recovered": sum(reader.attempts > 1 for reader in self.readers),
            "tokens": wanted,
            "lost": lost,
            "duplicated": doubled,
            "failed": sum(reader.outcome == "failed" for reader in self.readers),
            "errors": sum(len(reader.visible_errors) for reader in answered),
            "unfinished": sum(reader.outcome == "" for reader in self.readers),
        }
        silences = [reader.longest_silence for reader in self.readers if reader.attempts > 1] or [
            reader.longest_silence for reader in self.readers
        ]
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        return f"{scenario}: {told}; silence p50 {median(silences):.1f} s, max {max(silences):.1f} s", counts


@asynccontextmanager
async def load(
    streams: int, urls: Callable[[], list[str]], client: httpx.AsyncClient, question: Callable[[int], str]
) -> AsyncIterator[Tally]:
    """So many streams at any time, each with a question of its own; on leaving, those that are open are read to their end."""
    tally, numbers = Tally(), itertools.count()

    async def read_one() -> None:
        number = next(numbers)
        reader = Reader(urls, question(number), offset=number)
        tally.readers.append(reader)
        await reader.run(client)

    async with again_and_again(streams, read_one):
        yield tally


@asynccontextmanager
async def again_and_again(streams: int, read_one: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """So many at any time; on leaving, those that are open are read to their end."""
    stopping = asyncio.Event()

    async def go_on() -> None:
        while not stopping.is_set():
            await read_one()

    tasks = [asyncio.create_task(go_on()) for _ in range(streams)]
    try:
        yield
        stopping.set()
        async with asyncio.timeout(120):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
