"""Streams that an agent serves while something happens to it, and the count of what their readers got."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from langgraph_sdk import get_client

from tests.durability.fleet import until
from tests.e2e.agent import CONNECT_SECONDS, SILENCE_SECONDS, Agent
from tests.e2e.testkit.graph import answer
from tests.support.load import Tally, load
from tests.support.reader import Reader
from tests.support.thread_reader import ThreadReader, thread_load

T = TypeVar("T")

FAULTS = ("lost", "duplicated", "failed", "errors", "unfinished")

START_SECONDS = 60.0
"""A hundred first connections and runs take a second; on a busy machine much longer was seen."""


@dataclass(frozen=True, slots=True)
class Measured:
    tally: Tally
    wanted: int

    @property
    def readers(self) -> list[Reader]:
        return self.tally.readers

    async def all_reading(self) -> None:
        """Waits until as many streams as wanted have said their first word."""
        await until(lambda: sum(bool(reader.text) for reader in self.readers) >= self.wanted, START_SECONDS)

    def line(self, scenario: str) -> str:
        broken = sum(len(reader.errors) for reader in self.readers)
        return f"{self._counted(scenario)[0]}, {broken} connections made anew"

    def check(self) -> None:
        """Nothing was lost, doubled, refused or left open."""
        counts = self._counted("")[1]
        assert {name: counts[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0), self.complaints()
        assert {reader.outcome for reader in self.readers} == {"completed"}

    def _counted(self, scenario: str) -> tuple[str, dict[str, int]]:
        return self.tally.line(scenario, lambda reader: answer(reader.question))

    def complaints(self) -> list[str]:
        return [complaint for reader in self.readers for complaint in reader.visible_errors][:5]


@asynccontextmanager
async def streams(agent: Agent, count: int, question: Callable[[int], str]) -> AsyncIterator[Measured]:
    """So many at any time, each asked and read by a client that comes back to any node; read to their end on leaving."""
    async with agent.client() as client, load(count, agent.urls, client, question) as tally:
        yield Measured(tally, count)


@dataclass(frozen=True, slots=True)
class MeasuredThreads:
    """What clients of LangGraph got, by one address each, which has to stay."""

    readers: list[ThreadReader]
    wanted: int

    async def all_reading(self) -> None:
        """Waits until as many streams as wanted have said their first word."""
        await until(lambda: sum(bool(reader.answer) for reader in self.readers) >= self.wanted, START_SECONDS)

    def line(self, scenario: str) -> str:
        recovered = sum(reader.attempts[-1:] > [1] for reader in self.readers)
        again = sum(reader.begun_again for reader in self.readers)
        return (
            f"{scenario}, LangGraph's SDK: {len(self.readers)} streams, {recovered} recovered, {len(self.broken())} lost or"
            f" doubled, {again} requests sent again before anything came"
        )

    def broken(self) -> list[tuple[str, str, list[str], list[object]]]:
        """Questions with an answer, a state or an end that is not as it should be."""
        wanted = {reader.question: "".join(f"{word} " for word in answer(reader.question)) for reader in self.readers}
        return [
            (reader.question, reader.answer, reader.state, reader.errors)
            for reader in self.readers
            if (reader.answer, "".join(reader.state), reader.errors, reader.ended)
            != (wanted[reader.question], wanted[reader.question], [], True)
        ]


@asynccontextmanager
async def threads(agent: Agent, count: int, question: Callable[[int], str], door: str) -> AsyncIterator[MeasuredThreads]:
    """So many streams of LangGraph's own client at any time, through one door."""
    patience = (CONNECT_SECONDS, SILENCE_SECONDS, 30.0, 30.0)  # connect, read, write, pool
    headers = {"Authorization": f"Bearer {agent.token()}", "Connection": "close"}
    async with (
        get_client(url=door, api_key=None, headers=headers, timeout=patience) as client,
        thread_load(count, client, question) as readers,
    ):
        yield MeasuredThreads(readers, count)


def words_at(name: str, *, words: int, pace: float, steps: int = 1, pays: bool = False) -> Callable[[int], str]:
    """Questions to the test graph, each unlike any other: so many words a step, so many a second."""

    def question(number: int) -> str:
        pay = f" effect={name}-{number}" if pays else ""
        return f"id={name}-{number} words={words} pace={pace} steps={steps}{pay}"

    return question


async def eventually(look: Callable[[], T | None], seconds: float) -> T:
    """What `look` finds once it is true. It asks kubectl, so it runs beside the readers, not between them."""
    async with asyncio.timeout(seconds):
        while not (found := await asyncio.to_thread(look)):
            await asyncio.sleep(0.5)
        return found
