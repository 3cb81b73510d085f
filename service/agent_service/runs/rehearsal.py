"""A turn's statements, done by the code that does a turn, and taken back: what a database must take that is to serve one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from uuid import uuid4

from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.base import PutOp

from agent_service.db.migrate import check_schema
from agent_service.db.pool import Connection, Pool, connection
from agent_service.principal import Principal
from agent_service.runs.event_log import EventLog
from agent_service.runs.graph_store import GraphStore
from agent_service.runs.live import LiveRun, LiveRuns
from agent_service.runs.model import Ending, ModelCall
from agent_service.runs.sessions import SessionStore
from agent_service.runs.store import QueueLimits, RunStore

LIMIT = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"

STATEMENT_MILLISECONDS = 5_000
"""A database that takes longer for one statement than a request waits serves nobody."""

WHO = Principal("slipway", "rehearsal")

WORDS = "Grüße 😀"
"""A database of another encoding than UTF8 does not take them."""


class Held:
    """A pool of one connection, in which a transaction is open: what commits in it is a savepoint."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._conn


async def rehearse(pool: Pool) -> None:
    """Starts a run in a session of its own, writes what a turn writes, ends it, erases the session; nothing of it stays.

    Raises:
        SchemaMismatch: the schema is not this build's.
        DatabaseUnavailable, psycopg.Error: what a turn would have met.
    """
    async with connection(pool) as conn, conn.transaction(force_rollback=True):
        await conn.execute(LIMIT, (str(STATEMENT_MILLISECONDS),) * 2)
        await check_schema(conn)
        await _turn(conn)


async def _turn(conn: Connection) -> None:
    pool = cast("Pool", Held(conn))
    session = f"rehearsal-{uuid4().hex}"
    store = RunStore(pool, holder="rehearsal", lease_seconds=60, limits=QueueLimits(0, 0, 0), on_busy="reject")
    run = await store.start(uuid4(), session, WHO, WORDS, {"messages": [WORDS]}, here=True, listed=False, idempotency_key=None)
    assert run is not None  # noqa: S101  # None is for an idempotency key
    await _graph(conn, run.thread_id)
    live = LiveRun(run)
    live.publish_text(WORDS, "")
    live.calls.append(ModelCall(0, "rehearsal", "rehearsal", 1, 0, 1, None))
    await conn.execute("SELECT slipway.fence(%s, %s)", (run.id, run.attempt))
    await _log(pool, live)
    await store.get(run.id, WHO)
    sessions = SessionStore(pool)
    await sessions.rate(WHO, run.id, 1, WORDS)
    await sessions.history(WHO, session)
    await sessions.erase(WHO, session)


async def _graph(conn: Connection, thread: str) -> None:
    """LangGraph's part: a checkpoint, the writes of a step, an item of the store."""
    saver = AsyncPostgresSaver(conn)
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    saved = await saver.aput(
        config,  # type: ignore[arg-type]  # a RunnableConfig
        {**empty_checkpoint(), "channel_values": {"messages": [WORDS]}, "channel_versions": {"messages": "1"}},
        CheckpointMetadata(),
        {"messages": "1"},
    )
    await saver.aput_writes(saved, [("messages", WORDS)], "rehearsal")
    await saver.aget_tuple(saved)
    async with GraphStore(conn) as store:
        await store.abatch([PutOp(("rehearsal",), thread, {"text": WORDS})])


async def _log(pool: Pool, live: LiveRun) -> None:
    log = EventLog(pool, LiveRuns(), lease_seconds=60)
    ended = asyncio.ensure_future(log.finish(live, Ending("completed")))
    await asyncio.sleep(0)  # until it has said that it wants to
    try:
        await log.write([live])
    finally:
        log.abandon()
        await ended
