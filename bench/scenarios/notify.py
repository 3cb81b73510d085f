"""What a notice costs: processes that listen, and commit ten times a second each, as replicas with streams do.

PostgreSQL commits transactions that notify one after the other, and wakes every listener of the channel for each. So
Slipway notifies behind the commit, and only of runs that somebody watches on another replica (runs/writer.py).
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import psycopg

from bench.figures import Figure, percentile
from bench.stage import FULL, Stage

COMMITS_PER_SECOND = 10
"""Of a replica with streams: the log of events is flushed every 0.1 s."""

WATCHED = 0.1
"""Share of the commits with a run that is watched elsewhere: one reader of ten has come back to another replica."""

CHANNEL = "slipway_events"
PAYLOAD = "0195f2d6-0000-7000-8000-000000000000"

NEVER, WATCHED_ONLY, ALWAYS = "no notices", f"behind {WATCHED:.0%} of the commits", "in every commit"


def cores(replicas: int) -> Figure:
    return Figure(f"notify_cpu_{replicas}", f"{replicas} replicas, {COMMITS_PER_SECOND} commits/s each: PostgreSQL cores", "", 2)


def latency(replicas: int) -> Figure:
    return Figure(f"notify_commit_{replicas}", f"{replicas} replicas: time of a commit, p95", "ms")


def rate(replicas: int) -> Figure:
    return Figure(f"notify_rate_{replicas}", f"{replicas} replicas: commits", "/s", 0)


async def notify(stage: Stage) -> None:
    with stage.postgres.database(migrated=False) as database:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
            await conn.execute("CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, events text NOT NULL)")
        for replicas in (20, 100) if stage.effort is FULL else (20,):
            async with AsyncExitStack() as stack:
                writers = [await _connect(stack, database) for _ in range(replicas)]
                for _ in range(replicas):
                    await _listen(stack, database)
                for name in (NEVER, WATCHED_ONLY, ALWAYS):
                    stage.say(f"{replicas} simulated replicas, {name}")
                    await _measure(stage, replicas, name, writers)


async def _connect(stack: AsyncExitStack, database: str) -> psycopg.AsyncConnection:
    return await stack.enter_async_context(await psycopg.AsyncConnection.connect(database, autocommit=True))


async def _listen(stack: AsyncExitStack, database: str) -> None:
    """A listener that throws away what comes: what is measured is the server."""
    conn = await _connect(stack, database)
    await conn.execute(f"LISTEN {CHANNEL}".encode())
    loop, socket = asyncio.get_running_loop(), conn.fileno()
    loop.add_reader(socket, os.read, socket, 65536)
    stack.callback(loop.remove_reader, socket)


async def _measure(stage: Stage, replicas: int, name: str, writers: list[psycopg.AsyncConnection]) -> None:
    seconds = 2 * stage.effort.seconds
    took: list[float] = []
    cpu, started = stage.postgres.cpu_ms(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for place, conn in enumerate(writers):
            group.create_task(
                _write(conn, name, started + place / len(writers) / COMMITS_PER_SECOND, started + seconds, took.append)
            )
    passed = time.perf_counter() - started
    stage.record(cores(replicas), name, (stage.postgres.cpu_ms() - cpu) / 1000 / passed)
    stage.record(latency(replicas), name, 1000 * percentile(took, 0.95))
    stage.record(rate(replicas), name, len(took) / passed)


async def _write(conn: psycopg.AsyncConnection, name: str, due: float, until: float, took: Callable[[float], None]) -> None:
    """Commits at fixed times; those that fall behind are made at once."""
    number = 0
    while due < until:
        await asyncio.sleep(due - time.perf_counter())
        started = time.perf_counter()
        async with conn.pipeline(), conn.transaction():
            await conn.execute("INSERT INTO log (events) VALUES (repeat('word ', 100))")
            if name == ALWAYS:
                await conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, PAYLOAD))
        took(time.perf_counter() - started)
        if name == WATCHED_ONLY and number % round(1 / WATCHED) == 0:
            await conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, PAYLOAD))
        number += 1
        due += 1 / COMMITS_PER_SECOND
        if time.perf_counter() >= until:
            return
