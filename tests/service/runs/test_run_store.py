"""Starts that are to wait take turns to be counted in the queue, and none is counted out of turn."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

from agent_service.db.pool import Pool, make_pool
from agent_service.errors import Overloaded
from agent_service.principal import Principal
from agent_service.runs import turns
from agent_service.runs.live_run import LiveRuns
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.writer import Writer
from tests.service.runs.conftest import Database, until

PLACES = 2
STARTS = 6


@pytest.fixture
async def wide(database_url: str) -> AsyncIterator[Pool]:
    """With a connection for each start."""
    async with make_pool(database_url, size=STARTS, timeout=10) as opened:
        yield opened


def store_of(pool: Pool, holder: str) -> RunStore:
    """One process's, whose writer commits only when it is told to."""
    writer = Writer(pool, LiveRuns(), holder=holder, lease_seconds=60)
    limits = QueueLimits(PLACES, 100, 100)
    return RunStore(pool, writer, holder=holder, lease_seconds=60, limits=limits, on_busy="reject")


@contextmanager
def somebodys_turn(database_url: str) -> Iterator[None]:
    """As long as it lasts, it is nobody else's."""
    with psycopg.connect(database_url) as conn, conn.transaction():
        conn.execute("SELECT slipway.await_turn('0')")
        yield


def wanted() -> Asked:
    return Asked(uuid4(), Principal("default", "ann"), "q", {"messages": []}, idempotency_key=uuid4().hex)


async def start(store: RunStore) -> str:
    try:
        await store.start(wanted(), uuid4().hex, here=False, listed=True)
    except Overloaded:
        return "refused"
    return "queued"


WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"


async def test_starts_that_have_waited_for_long_are_counted_exactly(wide: Pool, database: Database, database_url: str) -> None:
    stores = [store_of(wide, f"process-{number}") for number in range(3)]
    with somebodys_turn(database_url):
        starts = [asyncio.create_task(start(stores[number % 3])) for number in range(STARTS)]
        await until(lambda: len(database.rows(WAITING)) == len(stores))  # one of each process
        # Longer than a writer waits: then 0016 let all of them be counted at once.
        waited = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND now() - query_start > interval '1.1 s'"
        await until(lambda: database.rows(waited))

    outcomes = Counter(await asyncio.gather(*starts))

    assert outcomes == {"queued": PLACES, "refused": STARTS - PLACES}
    assert database.rows("SELECT count(*) FROM slipway.runs WHERE status = 'queued'") == [{"count": PLACES}]


async def test_a_start_whose_turn_does_not_come_is_refused_and_leaves_nothing(
    wide: Pool, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.1)
    store = store_of(wide, "here")
    with somebodys_turn(database_url):
        assert {*await asyncio.gather(start(store), start(store))} == {"refused"}
    assert database.rows("SELECT 1 FROM slipway.sessions UNION ALL SELECT 1 FROM slipway.runs") == []
    assert await start(store) == "queued"


async def test_a_commit_goes_on_without_the_start_whose_turn_does_not_come(
    wide: Pool, database: Database, database_url: str
) -> None:
    store = store_of(wide, "here")
    with somebodys_turn(database_url):
        begins = [asyncio.create_task(store.begin(wanted(), uuid4().hex, here=here, listed=True)) for here in (True, False, True)]
        await asyncio.sleep(0)
        await store._writer.commit()
        begun = await asyncio.gather(*begins)
    assert [bool(each) for each in begun] == [True, False, True]
    assert database.rows("SELECT status, count(*) FROM slipway.runs GROUP BY 1") == [{"status": "running", "count": 2}]
