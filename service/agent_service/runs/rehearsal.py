"""A turn's statements, done by the code that does a turn, and taken back: what a database must take that is to serve one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint
from langgraph.store.base import PutOp

from agent_service.db.graph_store import GraphStore
from agent_service.db.migrate import check_schema
from agent_service.db.pool import Connection, Held, Pool, connection
from agent_service.principal import Principal
from agent_service.runs.checkpoints import CURRENT_LIVE, Checkpointer
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.run_types import Ending, ModelCall
from agent_service.runs.session_store import SessionStore
from agent_service.runs.writer import Writer

T = TypeVar("T")

LIMIT = "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)"

STATEMENT_MILLISECONDS = 5_000
"""A database that takes longer for one statement than a request waits serves nobody."""

WHO = Principal("slipway", "rehearsal")

WORDS = "Grüße 😀"
"""A database of another encoding than UTF8 does not take them."""


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
    writer = Writer(pool, LiveRuns(), holder="rehearsal", lease_seconds=60)
    store = RunStore(pool, writer, holder="rehearsal", lease_seconds=60, limits=QueueLimits(0, 0, 0), on_busy="reject")
    begun = await _written(
        writer,
        store.begin(
            Asked(uuid4(), WHO, WORDS, {"messages": [{"role": "user", "content": WORDS}]}), session, here=True, listed=False
        ),
    )
    assert begun is not None  # noqa: S101  # None is for a session that is there
    run, _ = begun
    live = LiveRun(run)
    live.said.publish_text(WORDS, "")
    live.calls.append(ModelCall(run.attempt, 0, "rehearsal", "rehearsal", 1, 0, 1, None))
    saver = Checkpointer(pool, writer)
    saved = await _step(saver, live)
    await _written(writer, writer.finish(live, Ending("completed")))
    await saver.aget_tuple(saved)
    async with GraphStore(conn) as items:
        await items.abatch([PutOp(("rehearsal",), run.thread_id, {"text": WORDS})])
    await store.get(run.id, WHO)
    sessions = SessionStore(pool)
    await sessions.rate(WHO, run.id, 1, WORDS)
    await sessions.history(WHO, session)
    await sessions.erase(WHO, session)


async def _step(saver: Checkpointer, live: LiveRun) -> RunnableConfig:
    """A checkpoint, and the writes of a step."""
    config: RunnableConfig = {"configurable": {"thread_id": live.run.thread_id, "checkpoint_ns": "", CURRENT_LIVE: live}}
    saved = await saver.aput(
        config,
        {
            **empty_checkpoint(),
            "channel_values": {"messages": [{"role": "user", "content": WORDS}]},
            "channel_versions": {"messages": "1"},
        },
        CheckpointMetadata(),
        {"messages": "1"},
    )
    await saver.aput_writes(
        {"configurable": {**config["configurable"], **saved["configurable"]}}, [("messages", WORDS)], "rehearsal"
    )
    return saved


async def _written(writer: Writer, wait: Coroutine[Any, Any, T]) -> T:
    """What waits for a commit, when that is made here and now."""
    waiting = asyncio.ensure_future(wait)
    await asyncio.sleep(0)  # until it has said what it wants
    try:
        await writer.write()
        return await waiting
    finally:
        waiting.cancel()
