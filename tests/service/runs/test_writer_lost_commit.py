"""A commit whose answer was lost: the server has the batch, and the process does not know."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from agent_service.db.pool import Pool, make_pool
from agent_service.principal import Principal
from agent_service.runs.event_log import EventLog
from agent_service.runs.events import START, end
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.run_types import Ending, ModelCall
from agent_service.runs.writer import Writer


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size=2, timeout=10) as opened:
        yield opened


async def started(pool: Pool) -> tuple[Writer, LiveRun]:
    live_runs = LiveRuns()
    writer = Writer(pool, live_runs, holder="here", lease_seconds=60)
    store = RunStore(pool, writer, holder="here", lease_seconds=60, limits=QueueLimits(10, 10, 10), on_busy="reject")
    owner = Principal("default", "ann")
    run = await store.start(Asked(uuid4(), owner, "?", {}), "s1", here=True, listed=True)
    assert run is not None
    return writer, live_runs.add(run)


def forget(live: LiveRun) -> None:
    """What the process knows when the connection broke at the commit."""
    live.logged_events = live.logged_calls = 0


async def test_a_batch_that_grew_meanwhile_is_written_whole_and_once(pool: Pool) -> None:
    log, (writer, live) = EventLog(pool), await started(pool)
    live.said.publish_text("one ", "")
    live.calls.append(ModelCall(1, 1, "agent", "m", 3, 0, 2, None))
    await writer.commit()
    forget(live)
    live.said.publish_text("two ", "")
    live.said.publish_text("three", "")
    live.calls.append(ModelCall(1, 2, "agent", "m", 3, 0, 2, None))

    await writer.commit()

    events, ended = await log.read(live.run.id, START)
    async with pool.connection() as conn:
        billed = await (await conn.execute("SELECT call FROM slipway.ledger ORDER BY call")).fetchall()
    assert [(event.seq, event.payload) for event in events] == [(1, "one "), (2, "two "), (3, "three")]
    assert not ended
    assert [row["call"] for row in billed] == [1, 2]


async def test_a_shorter_batch_that_comes_late_takes_nothing_back(pool: Pool) -> None:
    log, (writer, live) = EventLog(pool), await started(pool)
    for word in ("one ", "two "):
        live.said.publish_text(word, "")
    await writer.commit()
    forget(live)
    del live.said.events[1:]

    await writer.commit()

    events, _ = await log.read(live.run.id, START)
    assert [event.payload for event in events] == ["one ", "two "]


async def test_an_outcome_that_was_stored_already_is_not_set_again(pool: Pool) -> None:
    writer, live = await started(pool)
    live.said.publish(end())
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE slipway.runs SET status = 'finished', lease_expires_at = NULL, outcome = 'completed', finished_at = now()"
        )

    writing = asyncio.create_task(writer.finish(live, Ending("failed")))
    await asyncio.sleep(0)
    await writer.commit()
    ours = await writing

    async with pool.connection() as conn:
        row = await (await conn.execute("SELECT outcome FROM slipway.runs")).fetchone()
    assert (ours, row) == (False, {"outcome": "completed"})
    assert live.stop == "lost"
