"""A thread as its owner sees it, and how threads and their states are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from psycopg.rows import DictRow

from agent_service.runs.run_types import Interrupt, RunError

ThreadStatus = Literal["idle", "busy", "interrupted", "error"]

SortBy = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]


@dataclass(frozen=True, slots=True)
class Thread:
    """A session with what its last run came to."""

    id: UUID
    name: str
    """The id as the session's: with or without hyphens."""
    thread: str
    """Of LangGraph's tables."""
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any]
    status: ThreadStatus
    graph: str | None
    """None until a run or a change of state has needed one."""
    error: RunError | None = None
    interrupts: list[Interrupt] = field(default_factory=list)

    @classmethod
    def of(cls, row: DictRow) -> "Thread":
        """From a row of THREADS."""
        return cls(
            id=UUID(row["session_id"]),
            name=row["session_id"],
            thread=row["thread"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            metadata=row["metadata"],
            status=row["status"],
            graph=row["graph"],
            error=row["error"],
            interrupts=row["interrupts"] or [],
        )


class NamedThread(NamedTuple):
    """A thread without what its runs and states say of it."""

    id: UUID
    name: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Search:
    """Which threads: `metadata` is contained in theirs. `limit` and `offset` count threads."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    ids: Sequence[UUID] | None = None
    status: ThreadStatus | None = None
    sort_by: SortBy = "created_at"
    descending: bool = True
    limit: int = 10
    offset: int = 0


@dataclass(frozen=True, slots=True)
class At:
    """A place in a thread's history: a checkpoint, of the graph itself or of a subgraph (`ns`); its latest without an id."""

    checkpoint_id: str | None = None
    ns: str = ""

    def config(self, thread: str) -> RunnableConfig:
        """Of LangGraph, for that thread."""
        configurable = {"thread_id": thread, "checkpoint_ns": self.ns}
        return {"configurable": configurable | ({"checkpoint_id": self.checkpoint_id} if self.checkpoint_id else {})}


LATEST = At()
