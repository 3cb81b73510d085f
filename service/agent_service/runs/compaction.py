"""What an idle thread keeps of its states: the latest one, and the one before its last question, for that to be asked anew."""

from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.postgres.base import PRUNE_HEADS_SQL, _keep_latest
from psycopg import AsyncCursor, IsolationLevel
from psycopg.rows import DictRow

from agent_service.db.pool import Pool

Statements = Generator[tuple[str, Sequence[Any], bool], list[DictRow], None]
"""As the saver makes them: a statement, its values, and whether its rows are sent back."""


class CompactingSaver(AsyncPostgresSaver):
    """Each thread is compacted by one snapshot. Behind a pooler the transaction has begun when the saver asks for it."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._pool = pool

    async def compact(self, thread_id: str) -> None:
        """Removes all states but those two.

        What a run saves meanwhile is in no snapshot of ours, and stays.

        Raises:
            NotImplementedError: the thread's graph uses a DeltaChannel, whose value is spread over its states.
            psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected: the thread was used or erased just then.
        """
        statements = _with_question(_keep_latest(thread_id), thread_id)
        async with self._cursor() as cursor, cursor.connection.transaction():
            rows: list[DictRow] | None = None
            while asked := _next(statements, rows):
                sql, values, wants_rows = asked
                await cursor.execute(sql.encode(), values, prepare=False)  # planned for this thread's rows, as the saver does
                rows = await cursor.fetchall() if wants_rows else []

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:  # noqa: ARG002  # the base's
        async with self._pool.connection(isolation=IsolationLevel.REPEATABLE_READ) as conn, conn.cursor(binary=True) as cursor:
            yield cursor


def _next(statements: Statements, rows: list[DictRow] | None) -> tuple[str, Sequence[Any], bool] | None:
    try:
        return next(statements) if rows is None else statements.send(rows)
    except StopIteration:
        return None


def _with_question(statements: Statements, thread_id: str) -> Statements:
    """The saver's statements (langgraph-checkpoint-postgres 3.2, `_keep_latest`), told of one more state to keep by namespace.

    It keeps the latest, and for states older than version 4 their parent. Where it names a parent, that is all it can keep.
    """
    rows: list[DictRow] | None = None
    while asked := _next(statements, rows):
        rows = yield asked
        if asked[0] == PRUNE_HEADS_SQL:
            found = yield BEFORE_LAST_QUESTION, (thread_id,) * 4, True
            before = {row["checkpoint_ns"]: row["before"] for row in found}
            rows = [_keeping(row, before) for row in rows]


def _keeping(head: DictRow, before: Mapping[str, str]) -> DictRow:
    return {**head, "sends_parent": head["sends_parent"] or before.get(head["checkpoint_ns"])}


# By namespace: the graph's own state, and that of subgraphs which remember. A subgraph's call (`:`) goes with the state it began
# from. Checkpoint ids sort by time. What is replaced is that question with all behind it, as in replaced_questions.py.
BEFORE_LAST_QUESTION = """
WITH last AS (
    SELECT created_at, id FROM slipway.runs WHERE session_id = %s AND resumes IS NULL ORDER BY created_at DESC, id DESC LIMIT 1
), began AS (
    SELECT c.checkpoint_ns, min(c.checkpoint_id) AS id FROM public.checkpoints c
    WHERE c.thread_id = %s AND c.checkpoint_ns NOT LIKE '%%:%%' AND c.metadata->>'run_id' IN (
        SELECT r.id::text FROM slipway.runs r, last
        WHERE r.session_id = %s AND (r.created_at, r.id) >= (last.created_at, last.id))
    GROUP BY c.checkpoint_ns
)
SELECT began.checkpoint_ns, max(c.checkpoint_id) AS before
FROM began JOIN public.checkpoints c ON c.checkpoint_ns = began.checkpoint_ns AND c.checkpoint_id < began.id
WHERE c.thread_id = %s GROUP BY began.checkpoint_ns
"""
