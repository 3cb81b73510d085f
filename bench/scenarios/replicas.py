"""Several replicas on one database: what a turn costs when there are more of them."""

import asyncio
import time
from contextlib import AsyncExitStack

from bench.client import Turn
from bench.database import STATISTICS_SECONDS
from bench.load import closed_loop
from bench.scenarios.compare import TurnFigures
from bench.script import Ask
from bench.servers import SHARED, Server, server_process, stopped
from bench.stage import Stage

COUNTS = (1, 2, 4)
CLIENTS = 16
"""Of each replica."""

REPLICAS = TurnFigures("replicas", f"replicas on one database, c={CLIENTS} each")


async def replicas(stage: Stage) -> None:
    """They share one core here, so turns a second do not grow; that a turn costs each the same shows that they would."""
    async with AsyncExitStack() as stack:
        database = stack.enter_context(stage.postgres.database(migrated=True))
        servers = [await stack.enter_async_context(server_process(SHARED, database, stage.model_url)) for _ in range(max(COUNTS))]
        await _load(servers, 1.0)
        for repetition in range(stage.effort.repetitions):
            stage.say(f"{REPLICAS.title}, repetition {repetition + 1} of {stage.effort.repetitions}")
            for count in COUNTS:
                with stopped(servers[count:]):
                    await _measure(stage, servers[:count])
        before = await _commits(stage, servers, database)
        for count in COUNTS:
            with stopped(servers[count:]):
                done = len(await _load(servers[:count], stage.effort.seconds))
            now = await _commits(stage, servers, database)
            stage.record(REPLICAS.commits, _name(count), (now - before) / done)
            before = now


async def _measure(stage: Stage, servers: list[Server]) -> None:
    wal, database = stage.postgres.wal_bytes(), stage.postgres.cpu_ms()
    cpu, started = sum(server.cpu_ms() for server in servers), time.perf_counter()
    count = len(await _load(servers, stage.effort.seconds))
    seconds, name = time.perf_counter() - started, _name(len(servers))
    stage.record(REPLICAS.cpu, name, (sum(server.cpu_ms() for server in servers) - cpu) / count)
    stage.record(REPLICAS.postgres_cpu, name, (stage.postgres.cpu_ms() - database) / count)
    stage.record(REPLICAS.wal, name, (stage.postgres.wal_bytes() - wal) / count / 1000)
    stage.record(REPLICAS.rate, name, count / seconds)


async def _load(servers: list[Server], seconds: float) -> list[Turn]:
    """Turns of CLIENTS clients for each replica."""
    loads = [closed_loop(server.target, CLIENTS, seconds, lambda number: Ask(number=number)) for server in servers]
    return [turn for turns in await asyncio.gather(*loads) for turn in turns]


async def _commits(stage: Stage, servers: list[Server], database: str) -> int:
    with stopped(servers):
        await asyncio.sleep(STATISTICS_SECONDS)
        return stage.postgres.commits(database)


def _name(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
