"""What waiting costs: a replica without a run, and thousands of streams of which nothing comes."""

import asyncio
import time
from contextlib import AsyncExitStack

from bench.client import Connection
from bench.database import STATISTICS_SECONDS
from bench.figures import Figure
from bench.load import NUMBERS
from bench.script import Ask
from bench.servers import KINDS, TUTORIAL, serving, side_by_side
from bench.stage import FULL, Stage

COMMITS = Figure("idle_commits", "transactions a second of an idle replica", "/s", 2)
CPU = Figure("idle_cpu", "server CPU of an idle replica", "ms/s", 2)
POSTGRES_CPU = Figure("idle_postgres_cpu", "PostgreSQL CPU of three idle servers", "ms/s", 2)
MEMORY = Figure("idle_stream_memory", "memory of an open stream", "kB", 0)

IDLE_SECONDS = 20.0

STREAMS = {name: 200 if name == TUTORIAL else 2_000 for name in KINDS}
"""The tutorial takes 40 s to open 2,000; what one of its streams takes shows with 200."""

BATCH = 100
"""Streams that are opened at once: a listen queue holds no thousands."""

SETTLE_SECONDS = 2.0
"""From the head of an answer until its run waits for the model."""

SILENT_SECONDS = 300
"""Until the model says its first token: longer than all this takes."""


async def replica(stage: Stage) -> None:
    """All of them at once: they have a database each, and nobody has much to do."""
    async with side_by_side(stage.postgres, stage.model_url) as servers:
        await asyncio.sleep(STATISTICS_SECONDS)  # what starting took is counted by then
        stage.say(f"counting for {IDLE_SECONDS:g} s")
        before = {server.name: (stage.postgres.commits(server.database), server.cpu_ms()) for server in servers}
        started, database = time.perf_counter(), stage.postgres.cpu_ms()
        await asyncio.sleep(IDLE_SECONDS)
        seconds = time.perf_counter() - started
        stage.record(POSTGRES_CPU, "all", (stage.postgres.cpu_ms() - database) / seconds)
        for server in servers:
            commits, cpu = before[server.name]
            stage.record(COMMITS, server.name, (stage.postgres.commits(server.database) - commits) / seconds)
            stage.record(CPU, server.name, (server.cpu_ms() - cpu) / seconds)


async def streams(stage: Stage) -> None:
    """Each is a run that waits for its model: what a stream takes with all that stands behind it."""
    for name in KINDS:
        count = STREAMS[name] if stage.effort is FULL else BATCH
        most = {} if name == TUTORIAL else {"MAX_CONCURRENT_RUNS": str(BATCH + count), "MAX_CONNECTIONS": str(2 * BATCH + count)}
        with stage.postgres.database(migrated=name != TUTORIAL) as database:
            async with serving(name, database, stage.model_url, **most) as server:
                stage.say(f"{count} idle streams: {name}")
                async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
                    await _open(stack, group, server.url, BATCH)  # what the first ones load is no stream's
                    before = server.memory_bytes()
                    await _open(stack, group, server.url, count)
                    stage.record(MEMORY, name, (server.memory_bytes() - before) / count / 1000)


async def _open(stack: AsyncExitStack, group: asyncio.TaskGroup, url: str, count: int) -> None:
    """Opens so many streams, and gives what stands behind them time to begin."""
    for begin in range(0, count, BATCH):
        batch = [await stack.enter_async_context(await Connection.open(url)) for _ in range(begin, min(begin + BATCH, count))]
        for connection in batch:
            stack.callback(group.create_task(_read(connection)).cancel)
        await asyncio.gather(*(connection.answered.wait() for connection in batch))
    await asyncio.sleep(SETTLE_SECONDS)


async def _read(connection: Connection) -> None:
    ask = Ask(after=SILENT_SECONDS, number=next(NUMBERS))
    await connection.stream("/chat/stream", {"question": ask.question})
