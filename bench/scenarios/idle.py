"""What waiting costs: a replica without a run, and thousands of streams of which nothing comes."""

import asyncio
import time
from contextlib import AsyncExitStack

from bench.client import Connection, Turn
from bench.database import STATISTICS_SECONDS
from bench.figures import Figure
from bench.load import NUMBERS
from bench.script import Ask
from bench.servers import KINDS, TUTORIAL, server_process, side_by_side
from bench.stage import FULL, Stage

COMMITS = Figure("idle_commits", "transactions a second of an idle replica", "/s", 2)
CPU = Figure("idle_cpu", "server CPU of an idle replica", "ms/s", 2)
POSTGRES_CPU = Figure("idle_postgres_cpu", "PostgreSQL CPU of three idle servers", "ms/s", 2)
MEMORY = Figure("idle_stream_memory", "memory of an open stream and the run behind it", "kB", 0)
READER = Figure("idle_reader_memory", "memory of one more reader of a run", "kB", 0)

IDLE_SECONDS = 30.0
"""PostgreSQL tells of a backend's transactions when it next has some: in 15 s the same server had 7 and 17."""

STREAMS = {name: 200 if name == TUTORIAL else 2_000 for name in KINDS}
"""The tutorial takes 40 s to open 2,000; what one of its streams takes shows with 200."""

READERS = 500
"""More of them for one run: what a stream takes without a run."""

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
        runs, open_at_once = str(BATCH + count + 1), str(2 * BATCH + count + READERS)
        most = {} if name == TUTORIAL else {"MAX_CONCURRENT_RUNS": runs, "MAX_CONNECTIONS": open_at_once}
        with stage.postgres.database(migrated=name != TUTORIAL) as database:
            async with server_process(name, database, stage.model_url, **most) as server:
                stage.say(f"{count} idle streams: {name}")
                async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
                    await _open(stack, group, server.url, BATCH)  # what the first ones load is no stream's
                    before = server.memory_bytes()
                    await _open(stack, group, server.url, count)
                    stage.record(MEMORY, name, (server.memory_bytes() - before) / count / 1000)
                    if name != TUTORIAL:
                        before = server.memory_bytes()
                        await _join(stack, group, server.url, READERS)
                        stage.record(READER, name, (server.memory_bytes() - before) / READERS / 1000)


async def _open(stack: AsyncExitStack, group: asyncio.TaskGroup, url: str, count: int) -> None:
    """Opens so many streams, and gives what stands behind them time to begin."""
    asks = (Ask(after=SILENT_SECONDS, number=next(NUMBERS)) for _ in range(count))
    await _read(stack, group, url, [("/chat/stream", {"question": ask.question}) for ask in asks])


async def _join(stack: AsyncExitStack, group: asyncio.TaskGroup, url: str, count: int) -> None:
    """Opens a stream, and then so many that read its run too."""
    ask, turn = Ask(after=SILENT_SECONDS, number=next(NUMBERS)), Turn()
    connection = await stack.enter_async_context(await Connection.open(url))
    stream = connection.stream("/chat/stream", {"question": ask.question}, turn=turn)
    stack.callback(group.create_task(stream).cancel)
    while not turn.event_id:
        await asyncio.sleep(0.05)
    await _read(stack, group, url, [(f"/runs/{turn.event_id.rsplit('-', 2)[0]}/stream", None)] * count)


async def _read(stack: AsyncExitStack, group: asyncio.TaskGroup, url: str, requests: list[tuple[str, object]]) -> None:
    for begin in range(0, len(requests), BATCH):
        batch = []
        for path, body in requests[begin : begin + BATCH]:
            connection = await stack.enter_async_context(await Connection.open(url))
            stack.callback(group.create_task(connection.stream(path, body)).cancel)
            batch.append(connection)
        await asyncio.gather(*(connection.answered.wait() for connection in batch))
    await asyncio.sleep(SETTLE_SECONDS)
