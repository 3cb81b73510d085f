"""LangGraph's checkpointer on our pool, fenced: only the current attempt at a run writes."""

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple, DeltaChannelHistory
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from agent_service.db.pool import LIMIT_IDLE, Pool, connection, idle_limit, until_database_answers
from agent_service.errors import LeaseLost
from agent_service.runs.live import LiveRun, storable
from agent_service.runs.serde import StateSerializer
from agent_service.threads import lane

SERIALISING = "checkpoints"
"""Lane of the threads that serialise: a run's sync nodes wait for them."""

FENCE_STATE = "SW001"
"""SQLSTATE that slipway.fence raises."""

CURRENT_LIVE = "slipway_live"
"""Name under `configurable` of the LiveRun that writes."""


class _AsBlob:
    """A value that the saver would put into the checkpoint's JSON, where it cannot stand."""

    def __init__(self, value: str | float) -> None:
        self.value = value


def _storable(checkpoint: Checkpoint) -> Checkpoint:
    """Strings with U+0000 or half a surrogate pair, NaN, infinities and enums of strings and numbers go where objects go:
    JSONB takes none of them, or gives them back as plain ones."""
    refused = {name: _AsBlob(value) for name, value in checkpoint["channel_values"].items() if not _is_json(value)}
    return {**checkpoint, "channel_values": {**checkpoint["channel_values"], **refused}} if refused else checkpoint


def _is_json(value: Any) -> bool:
    """Whether it is no string or number, or one that JSONB gives back as it was."""
    if not isinstance(value, str | int | float):
        return True
    if type(value) not in {str, int, float, bool}:
        return False
    return storable(value) == value if isinstance(value, str) else math.isfinite(value)


class Checkpointer(AsyncPostgresSaver):
    """AsyncPostgresSaver, fenced, that waits for a database that is away, and without its lock: that one makes all runs
    of a process take turns at the database, though each takes a connection of its own from the pool
    (langgraph-checkpoint-postgres 3.2, aio.py `_cursor`).
    """

    def __init__(self, pool: Pool, written: Callable[[LiveRun], Awaitable[None]], lease_seconds: float) -> None:
        super().__init__(pool, serde=StateSerializer())
        self._idle_limit = idle_limit(lease_seconds)
        self._pool = pool
        self._written = written
        self._writer: ContextVar[LiveRun | None] = ContextVar("writer", default=None)

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        with self._fenced(config) as live:
            if live:
                # What a checkpoint holds must be in the log: a recovery keeps just that text.
                await self._written(live)
            # Writing again is safe: the saver's statements are upserts.
            saved = await until_database_answers(
                lambda: super(Checkpointer, self).aput(config, _storable(checkpoint), metadata, new_versions), "checkpoint"
            )
            if live and _ends_step(config, metadata) and not live.advanced:
                await self._advance(live)
            return saved

    async def _advance(self, live: LiveRun) -> None:
        """Crashes are counted from here on: what killed the holders before was survived."""
        if live.run.crashes:
            await until_database_answers(lambda: self._forget_crashes(live), "end of a step")
        live.advanced = True

    async def _forget_crashes(self, live: LiveRun) -> None:
        async with connection(self._pool) as conn:
            await conn.execute(FORGET_CRASHES, (live.run.id, live.run.attempt))

    def _dump_blobs(
        self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: ChannelVersions
    ) -> list[tuple[str, str, str, str, str, bytes | None]]:
        plain = {name: value.value if isinstance(value, _AsBlob) else value for name, value in values.items()}
        return super()._dump_blobs(thread_id, checkpoint_ns, plain, versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        with self._fenced(config) as live:
            if live:
                await self._written(live)
            await until_database_answers(
                lambda: super(Checkpointer, self).aput_writes(config, writes, task_id, task_path), "writes of a step"
            )

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await until_database_answers(lambda: super(Checkpointer, self).aget_tuple(config), "checkpoint")

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await until_database_answers(
            lambda: super(Checkpointer, self).aget_delta_channel_history(config=config, channels=channels), "checkpoints"
        )

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        with lane(SERIALISING):
            return await super()._load_checkpoint_tuple(value)

    @contextlib.contextmanager
    def _fenced(self, config: RunnableConfig) -> Iterator[LiveRun | None]:
        live: LiveRun | None = config["configurable"].get(CURRENT_LIVE)
        token = self._writer.set(live)
        try:
            with lane(SERIALISING):
                yield live
        finally:
            self._writer.reset(token)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with connection(self._pool) as conn:
            if not pipeline:
                async with conn.cursor(binary=True, row_factory=dict_row) as cursor:
                    yield cursor
                return
            try:
                async with conn.transaction(), conn.pipeline(), conn.cursor(binary=True, row_factory=dict_row) as cursor:
                    await conn.execute(LIMIT_IDLE, (self._idle_limit,))
                    yield cursor
                    # Last: the saver serialises in a thread while its cursor is open, and the lock must not wait for that.
                    if live := self._writer.get():
                        await conn.execute("SELECT slipway.fence(%s, %s)", (live.run.id, live.run.attempt))
            except psycopg.Error as error:
                if error.sqlstate == FENCE_STATE:
                    raise LeaseLost("another process took the run over") from error
                raise


def _ends_step(config: RunnableConfig, metadata: CheckpointMetadata) -> bool:
    """A step of the whole graph, which no later attempt repeats. An attempt that starts over stores its input again, as
    steps -1 and 0, and a node that is repeated the checkpoints of its subgraph."""
    return not config["configurable"]["checkpoint_ns"] and metadata.get("step", 0) > 0


FORGET_CRASHES = "UPDATE slipway.runs SET crashes = 0 WHERE id = %s AND attempt = %s AND status = 'running'"
