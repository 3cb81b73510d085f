"""Turns of several servers side by side: what one costs each of them, the database, and who waits for it."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench.client import Turn
from bench.database import STATISTICS_SECONDS
from bench.figures import Figure
from bench.load import Target, closed_loop
from bench.script import Ask
from bench.servers import DIRECT, Server, stopped
from bench.stage import Stage

WARM_UP_CLIENTS, WARM_UP_SECONDS = 16, 1.0


@dataclass(frozen=True, slots=True)
class TurnFigures:
    """The figures of turns of one kind; keys begin with `key`."""

    key: str
    title: str

    def of(self, what: str, title: str, unit: str, digits: int = 1) -> Figure:
        return Figure(f"{self.key}_{what}", f"{self.title}: {title}", unit, digits)

    @property
    def cpu(self) -> Figure:
        return self.of("cpu", "server CPU a turn", "ms")

    @property
    def postgres_cpu(self) -> Figure:
        return self.of("postgres_cpu", "PostgreSQL CPU a turn", "ms")

    @property
    def commits(self) -> Figure:
        return self.of("commits", "transactions a turn", "", 2)

    @property
    def wal(self) -> Figure:
        return self.of("wal", "WAL a turn", "kB")

    @property
    def rate(self) -> Figure:
        return self.of("rate", "turns", "/s")

    @property
    def first(self) -> Figure:
        return self.of("first", "time to first text", "ms")

    @property
    def added(self) -> Figure:
        return self.of("added", "time to first text added", "ms")


Load = Callable[[Target], Awaitable[list[Turn]]]


def turns(clients: int, seconds: float, *, tool: bool = False, sessions: Sequence[str] = ()) -> Load:
    """Turns of 50 tokens without delay."""
    return lambda target: closed_loop(target, clients, seconds, lambda number: Ask(number=number, tool=tool), sessions)


def thread_turns(clients: int, seconds: float) -> Load:
    """The same, asked by the wire of LangGraph's SDKs where there is one."""
    return lambda target: closed_loop(target.on_threads(), clients, seconds, lambda number: Ask(number=number))


def first_ms(found: Sequence[Turn]) -> float:
    """Milliseconds to the first text, of the turn in the middle."""
    return 1000 * statistics.median(turn.first for turn in found)


class Comparison:
    """`await Comparison.of(stage, servers)`: warm, and counted from now on. While one is measured, the others stand still."""

    def __init__(self, stage: Stage, servers: Sequence[Server]) -> None:
        self._stage = stage
        self._servers = servers
        self._commits: dict[str, int] = {}

    @classmethod
    async def of(cls, stage: Stage, servers: Sequence[Server], warm_up: Load | None = None) -> "Comparison":
        comparison = cls(stage, servers)
        for server in servers:
            with comparison._only(server):
                await (warm_up or turns(WARM_UP_CLIENTS, WARM_UP_SECONDS))(server.target)
        comparison._commits = await comparison._count()
        return comparison

    async def measure(self, figures: TurnFigures, load: Load, *, direct: bool = False) -> None:
        """Interleaved repetitions. `direct`: the model itself too."""
        done: Counter[str] = Counter()
        for repetition in range(self._stage.effort.repetitions):
            self._stage.say(f"{figures.title}, repetition {repetition + 1} of {self._stage.effort.repetitions}")
            limit = await self._direct(figures, load) if direct else None
            for server in self._servers:
                with self._only(server):
                    done[server.name] += await self._one(figures, server, load, limit)
        now = await self._count()
        for name, count in done.items():
            if name in now:
                self._stage.record(figures.commits, name, (now[name] - self._commits[name]) / count)
        self._commits = now

    def _only(self, server: Server) -> AbstractContextManager[None]:
        return stopped(other for other in self._servers if other is not server)

    async def _one(self, figures: TurnFigures, server: Server, load: Load, limit: float | None) -> int:
        """`limit`: time to first text of the direct line, which is not this server's."""
        stage, postgres = self._stage, self._stage.postgres
        wal, database, cpu, started = postgres.wal_bytes(), postgres.cpu_ms(), server.cpu_ms(), time.perf_counter()
        found = await load(server.target)
        seconds, cpu, database = time.perf_counter() - started, server.cpu_ms() - cpu, postgres.cpu_ms() - database
        count = len(found)
        stage.record(figures.cpu, server.name, cpu / count)
        if server.database:
            stage.record(figures.postgres_cpu, server.name, database / count)
            stage.record(figures.wal, server.name, (postgres.wal_bytes() - wal) / count / 1000)
        stage.record(figures.rate, server.name, count / seconds)
        first = first_ms(found)
        stage.record(figures.first, server.name, first)
        if limit is not None:
            stage.record(figures.added, server.name, first - limit)
        return count

    async def _direct(self, figures: TurnFigures, load: Load) -> float:
        with stopped(self._servers):
            started = time.perf_counter()
            found = await load(Target(self._stage.model_url, direct=True))
        self._stage.record(figures.rate, DIRECT, len(found) / (time.perf_counter() - started))
        first = first_ms(found)
        self._stage.record(figures.first, DIRECT, first)
        return first

    async def _count(self) -> dict[str, int]:
        """Transactions of each server so far; all of them stand still until PostgreSQL has counted them."""
        with stopped(self._servers):
            await asyncio.sleep(STATISTICS_SECONDS)
            return {server.name: self._stage.postgres.commits(server.database) for server in self._servers if server.database}
