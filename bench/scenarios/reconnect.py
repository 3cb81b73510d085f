"""Readers that come back: 500 within a second, and those of a replica that was killed."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from bench.client import Connection, Turn
from bench.figures import Figure, percentile
from bench.load import NUMBERS, check
from bench.script import Ask
from bench.servers import SHARED, Server, server_process
from bench.stage import FULL, Stage

RATE = 2
"""Tokens a second of streams that are to be many, and to last."""

RETURN = Figure("reconnect_seconds", "500 readers come back within a second: the next text after", "s", 2)
SLOWEST = Figure("reconnect_slowest", "the same, the slowest one", "s", 2)
KILL = Figure("kill_seconds", "killed replica: the next token at its readers after, p95", "s", 1)

LEASE_SECONDS = "30"
"""Two replicas share a core here, with 500 runs: none is to be taken for dead because the machine is slow."""

SAME, OTHER = "the replica that runs them", "another replica"

RETRY_SECONDS = 0.5
"""What Slipway tells an EventSource to wait (`retry:`)."""


@dataclass(slots=True)
class Crowd:
    """Readers that do the same at the same time: all of them read, then all have left, then all come back."""

    cut: asyncio.Event = field(default_factory=asyncio.Event)
    back: asyncio.Event = field(default_factory=asyncio.Event)
    reading: int = 0
    away: int = 0


async def reconnect(stage: Stage) -> None:
    """Half of them come back to the other replica. All have missed a token by then: none waits for the model."""
    count = 500 if stage.effort is FULL else 60
    async with AsyncExitStack() as stack:
        one, two = await _two(stack, stage, MAX_CONCURRENT_RUNS=str(count), LEASE_SECONDS=LEASE_SECONDS)
        asks = [Ask(tokens=24, rate=RATE, number=next(NUMBERS)) for _ in range(count)]
        stage.say(f"{count} streams begin")
        crowd = Crowd()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_leave_and_return(place / count, ask, one.url, (one, two)[place % 2].url, crowd))
                for place, ask in enumerate(asks)
            ]
            while crowd.reading < count:
                await asyncio.sleep(0.02)
            crowd.cut.set()
            while crowd.away < count:
                await asyncio.sleep(0.02)
            stage.say(f"{count} readers have left, and come back within a second")
            crowd.back.set()
        for name, found in ((SAME, tasks[::2]), (OTHER, tasks[1::2])):
            seconds = [task.result() for task in found]
            stage.record(RETURN, name, percentile(seconds, 0.95))
            stage.record(SLOWEST, name, max(seconds))


async def _leave_and_return(delay: float, ask: Ask, first: str, second: str, crowd: Crowd) -> float:
    """Reads a text and more, leaves, comes back by the id of the last event; seconds until the next text."""
    turn = Turn()

    def enough(turn: Turn) -> bool:
        crowd.reading += len(turn.reads) == 1
        return crowd.cut.is_set()

    async with await Connection.open(first) as connection:
        await connection.stream("/chat/stream", {"question": ask.question}, turn=turn, enough=enough)
    held = len(turn.reads)
    crowd.away += 1
    await crowd.back.wait()
    await asyncio.sleep(1 / RATE + delay)
    async with await Connection.open(second) as connection:
        await _join(connection, turn)
    check(turn, ask)
    return turn.reads[held] - turn.started


async def _join(connection: Connection, turn: Turn) -> None:
    run_id = turn.event_id.rsplit("-", 2)[0]
    await connection.stream(f"/runs/{run_id}/stream", turn=turn, headers=f"Last-Event-ID: {turn.event_id}\r\n")


async def kill(stage: Stage) -> None:
    """Streams of a replica that is killed; their readers come back to another one, which takes the runs over."""
    async with AsyncExitStack() as stack:
        one, two = await _two(stack, stage)
        asks = [Ask(tokens=100, rate=10, number=next(NUMBERS)) for _ in range(20)]
        turns = [Turn() for _ in asks]
        async with asyncio.TaskGroup() as group:
            for ask, turn in zip(asks, turns, strict=True):
                group.create_task(_survive(ask, turn, (one, two)))
            while not all(len(turn.reads) > 10 for turn in turns):
                await asyncio.sleep(0.05)
            stage.say("kill -9")
            one.process.kill()
        stage.record(KILL, SHARED, percentile((max(turn.gaps()) for turn in turns), 0.95))


async def _survive(ask: Ask, turn: Turn, servers: Sequence[Server]) -> None:
    try:
        async with await Connection.open(servers[0].url) as connection:
            await connection.stream("/chat/stream", {"question": ask.question}, turn=turn)
    except ConnectionError:
        while not turn.complete:
            await asyncio.sleep(RETRY_SECONDS)
            async with await Connection.open(servers[1].url) as connection:
                await _join(connection, turn)
    check(turn, ask)


async def _two(stack: AsyncExitStack, stage: Stage, **more: str) -> tuple[Server, Server]:
    """Two replicas on one database."""
    database = stack.enter_context(stage.postgres.database(migrated=True))
    one = await stack.enter_async_context(server_process(SHARED, database, stage.model_url, **more))
    return one, await stack.enter_async_context(server_process(SHARED, database, stage.model_url, **more))
