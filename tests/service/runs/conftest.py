"""The real service on a graph of the test's own, the rows it writes, and a crash of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from agent_service.db.pool import Pool, make_pool
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import Ending, HandOver
from tests.service.runs.graphs import Effects, Graph
from tests.support.service import RunningService, running_service

WAIT_SECONDS = 20.0
"""For a condition that must come true; far above what a busy machine takes."""

Serve = Callable[..., AbstractAsyncContextManager[RunningService]]


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def serve(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`serve(graph, **env)`: the service on this graph."""

    def start(graph: Graph, **env: str) -> AbstractAsyncContextManager[RunningService]:
        monkeypatch.setattr("tests.service.runs.graphs.under_test", graph, raising=False)
        return running_service(database_url, AGENT_GRAPH="tests.service.runs.graphs:under_test", **env)

    return start


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size=2, timeout=10) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Database:
    """What the service wrote, read on a connection of its own."""

    connection: psycopg.Connection[DictRow]

    def rows(self, query: LiteralString, *values: Any) -> list[DictRow]:
        cursor = self.connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []

    def run(self, run_id: str) -> DictRow:
        (row,) = self.rows("SELECT * FROM slipway.runs WHERE id = %s", run_id)
        return row

    def payloads(self, run_id: str, kind: str) -> list[Any]:
        """Payloads of the logged events of one kind."""
        batches = self.rows("SELECT events FROM slipway.run_events WHERE run_id = %s ORDER BY attempt, first_seq", run_id)
        return [payload for batch in batches for name, _, payload in batch["events"] if name == kind]

    async def finished(self, run_id: str) -> DictRow:
        """The run's row, once it has an outcome."""
        await until(lambda: self.run(run_id)["status"] == "finished")
        return self.run(run_id)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        yield Database(connection)


async def until(condition: Callable[[], object]) -> None:
    """Waits until it is true."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def begin(service: RunningService, path: str = "/chat", **body: Any) -> str:
    """Starts a run (`question=`) or resumes one (`value=`); returns its id."""
    async with service.client(headers={"Prefer": "respond-async"}) as client:
        response = await client.post(path, json=body)
    assert response.status_code == 202, response.text
    return str(response.json()["run_id"])


@asynccontextmanager
async def silenced(service: RunningService) -> AsyncIterator[None]:
    """The process writes nothing and renews no lease, as if it had stopped; its graph goes on."""
    async with service.resources.worker._writer.writing:
        yield


@asynccontextmanager
async def unfinished(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[LiveRun]]:
    """What runs say and do is stored and how they end is not, as if the process died right before. Yields those that want to."""
    writer = service.resources.worker._writer
    ends, over = list[LiveRun](), asyncio.Event()
    finish = writer.finish

    async def late(run: LiveRun, ending: Ending | HandOver) -> bool:
        await writer.settled(run)
        ends.append(run)
        await over.wait()
        return await finish(run, ending)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "finish", late)
        yield ends
        over.set()


def expire_leases(database: Database) -> None:
    """All processes look for what they might take over, as when any run is started; by themselves they do each 3 s."""
    database.rows("UPDATE slipway.runs SET lease_expires_at = now() - interval '1 second' WHERE status = 'running'")
    database.rows("NOTIFY slipway_work")
