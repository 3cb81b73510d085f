"""LangGraph's checkpointer on our writer: what a run puts goes with the next commit, fenced, and is read back behind it."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot  # its saver keeps it as a blob, and a mark in the checkpoint
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from agent_service.db.pool import Pool, connection, until_database_answers
from agent_service.errors import LeaseLost
from agent_service.runs.events import storable
from agent_service.runs.live_run import LiveRun
from agent_service.runs.serde import StateSerializer
from agent_service.runs.steps import Row
from agent_service.runs.writer import Writer
from agent_service.signatures import with_signature
from agent_service.threads import lane

SERIALISING = "checkpoints"
"""Lane of the threads that serialise: a run's sync nodes wait for them."""

CURRENT_LIVE = "slipway_live"
"""Name under `configurable` of the LiveRun that writes."""

CHANGES = "counters_since_delta_snapshot"
"""In the metadata of a state with a DeltaChannel, whose value is made of the results that led to it (langgraph 1.2,
`pregel/_loop.py`). Without it the state has all its values."""

MANY = 50
"""Items of a value, or thousands of characters, which are serialised in a thread: about a millisecond. Fewer take less
time than the way to the thread."""


class Checkpointer(AsyncPostgresSaver):
    """AsyncPostgresSaver whose puts are committed by the process's writer, and which waits for a database that is away.

    A put returns before its commit: nobody is told that the run has ended until all of it is there, and what LangGraph
    reads for the run is read behind it. For who is not a run (no CURRENT_LIVE) it is the saver as it is.
    """

    def __init__(self, pool: Pool, writer: Writer) -> None:
        super().__init__(pool, serde=StateSerializer())
        self._pool = pool
        self._writer = writer

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        """Leaves the checkpoint for the next commit. Raises LeaseLost when the run is no more this process's."""
        live = _live(config)
        if live is None:
            return await super().aput(config, checkpoint, metadata, new_versions)
        inside = config["configurable"]
        key = (inside["thread_id"], inside["checkpoint_ns"])
        values = {name: _stored(value) for name, value in checkpoint["channel_values"].items()}
        blobs = {name: checkpoint["channel_values"][name] for name, stored in values.items() if stored is _AS_BLOB}
        inline = {name: stored for name, stored in values.items() if stored is not _AS_BLOB}
        inline |= {name: True for name, value in blobs.items() if isinstance(value, _DeltaSnapshot)}
        versions = {name: version for name, version in new_versions.items() if name in blobs}
        rows = await _serialised(blobs, self._blob_rows, *key, blobs, versions)
        row: Row = (
            *key,
            checkpoint["id"],
            inside.get("checkpoint_id"),
            {**checkpoint, "channel_values": inline},
            get_serializable_checkpoint_metadata(config, metadata),
        )
        if key[1]:
            live.every_state = True  # states of subgraphs name those of the graph around them
        asks = live.asks_first and metadata.get("source") == "input" and not key[1]
        follows = live.question is not None and inside.get("checkpoint_id") == live.question
        if asks:
            live.question = checkpoint["id"]
        replaces = not live.every_state and CHANGES not in metadata
        if left_out := live.steps.add_checkpoint(row, rows, survived=_ends_step(config, metadata), replaces=replaces):
            live.left_out.add(left_out)
        await self._writer.saved(live, work=not (asks or follows))
        return {"configurable": {"thread_id": key[0], "checkpoint_ns": key[1], "checkpoint_id": checkpoint["id"]}}

    def _blob_rows(self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: ChannelVersions) -> list[Row]:
        return [(*row[:5], row[5] or b"") for row in self._dump_blobs(thread_id, checkpoint_ns, values, versions)]

    @with_signature
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Likewise for the results of one task."""
        live = _live(config)
        if live is None:
            await super().aput_writes(config, writes, task_id, task_path)
            return
        inside = config["configurable"]
        key = (inside["thread_id"], inside["checkpoint_ns"], inside["checkpoint_id"], task_id)
        rows = await _serialised(dict(writes), self._write_rows, key, task_path, writes)
        if key[2] in live.left_out:
            return
        live.steps.add_writes(rows, marks=all(channel in WRITES_IDX_MAP for channel, _ in writes))
        await self._writer.saved(live, work=key[2] != live.question)

    def _write_rows(self, key: Row, task_path: str, writes: Sequence[tuple[str, Any]]) -> list[Row]:
        return [
            (*key, WRITES_IDX_MAP.get(channel, number), task_path, channel, *self.serde.dumps_typed(value))
            for number, (channel, value) in enumerate(writes)
        ]

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Behind what the run has put before."""
        live = config["configurable"].get(CURRENT_LIVE)
        if live and live.fresh and not live.put_state:
            return None  # its session is new: nothing is there
        if live:
            await self._writer.settled(live)
        return await until_database_answers(lambda: super(Checkpointer, self).aget_tuple(config), "checkpoint")

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        if live := config["configurable"].get(CURRENT_LIVE):
            await self._writer.settled(live)
        return await until_database_answers(
            lambda: super(Checkpointer, self).aget_delta_channel_history(config=config, channels=channels), "checkpoints"
        )

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        with lane(SERIALISING):
            return await super()._load_checkpoint_tuple(value)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """Without the saver's lock, which makes all runs of a process take turns at the database, though each takes a
        connection of its own from the pool (langgraph-checkpoint-postgres 3.2, aio.py `_cursor`)."""
        async with connection(self._pool) as conn:
            if not pipeline:
                async with conn.cursor(binary=True, row_factory=dict_row) as cursor:
                    yield cursor
                return
            async with conn.transaction(), conn.pipeline(), conn.cursor(binary=True, row_factory=dict_row) as cursor:
                yield cursor


_AS_BLOB = object()


def _live(config: RunnableConfig) -> LiveRun | None:
    """The run that writes. Raises LeaseLost when it is no longer to."""
    live: LiveRun | None = config["configurable"].get(CURRENT_LIVE)
    if live and live.stop == "lost":
        raise LeaseLost("another process took the run over")
    if live:
        live.put_state = True
    return live


def _stored(value: Any) -> Any:
    """The value as it stands in the checkpoint's JSON, or _AS_BLOB: the saver's rule, but for strings with U+0000 or half a
    surrogate pair, NaN, infinities and enums of strings and numbers: JSONB takes none of them, or gives them back plain."""
    if value is None or type(value) in {bool, int}:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    return value if type(value) is str and storable(value) == value else _AS_BLOB


async def _serialised(values: Mapping[str, Any], dump: Any, *args: Any) -> list[Row]:
    """Rows of these values, now: the graph may change them later. What takes long is done beside the loop."""
    if not any(_is_large(value) for value in values.values()):
        return list(dump(*args))
    with lane(SERIALISING):
        return list(await asyncio.to_thread(dump, *args))


def _is_large(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return len(value) > MANY * 1_000
    return hasattr(value, "__len__") and len(value) > MANY


def _ends_step(config: RunnableConfig, metadata: CheckpointMetadata) -> bool:
    """A step of the whole graph, which no later attempt repeats. An attempt that starts over stores its input again, as
    steps -1 and 0, and a node that is repeated the checkpoints of its subgraph."""
    return not config["configurable"]["checkpoint_ns"] and metadata.get("step", 0) > 0
