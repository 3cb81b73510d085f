"""Rows of runs: how they are asked for, and what is read of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_type_hints
from uuid import UUID

from psycopg.rows import DictRow

from agent_service.caller_limits import CallerLimits
from agent_service.db.pool import Connection
from agent_service.principal import Principal
from agent_service.question_files import FileNote
from agent_service.runs.run_types import DEFAULT_GRAPH, Run, RunInput

EXTERNAL_ID = "coalesce(s.external_id, s.id)"
"""What a session's owner calls it."""

_COLUMNS = {
    "thread_id": "r.session_id AS thread_id",
    "session_id": f"(SELECT {EXTERNAL_ID} FROM slipway.sessions s WHERE s.id = r.session_id) AS session_id",
}

RUN_COLUMNS = ", ".join(_COLUMNS.get(name, f"r.{name}") for name in get_type_hints(Run))
WITHOUT_ANSWER = RUN_COLUMNS.replace("r.answer", "'' AS answer")
"""For who does not show it: megabytes, for each of many that ask at once."""

TITLE_CHARS = 80
"""Characters of the first question that name a session in a list."""

UNDONE = "(r.undo AND r.status = 'finished')"
"""Of a run `r`: its caller took it back, and it is shown to nobody."""

# Of an interrupted run: it still waits for a decision. Another run brings it, or leaves it behind.
WAITS = """
{run}.outcome = 'interrupted' AND NOT EXISTS (
    SELECT 1 FROM slipway.runs later WHERE later.session_id = {run}.session_id
    AND (later.resumes = {run}.id OR (later.goes_past AND later.created_at > {run}.created_at)))
"""


def as_run(row: DictRow | None) -> Run | None:
    """A row with the columns of RUN_COLUMNS; None for None."""
    return Run(**row) if row else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that is to be: what its row holds before it begins."""

    id: UUID
    principal: Principal
    question: str
    input: RunInput
    resumes: UUID | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None
    traceparent: str | None = None
    graph: str = DEFAULT_GRAPH
    limits: CallerLimits = field(default_factory=CallerLimits)
    """Of the caller, as far as they are to be counted with the start."""
    files: list[FileNote] | None = None
    """Of its question; what is in them stands in the input."""
    branch: Mapping[str, object] | None = None
    """Where it begins, if not at the latest state (runs/branches.py)."""
    goes_past: bool = False
    """It begins though a decision is waited for, which then no longer is."""


async def one(conn: Connection, query: str, *args: object) -> DictRow | None:
    """The first row of a query, or None."""
    return await (await conn.execute(query.encode(), args)).fetchone()
