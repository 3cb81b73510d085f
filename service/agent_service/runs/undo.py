"""Undoing what runs did to the state of their thread.

A run that is going is marked with its cancellation, and undone by the database as it ends (migration 0024): whoever ends it,
and before another one begins. What is here undoes runs that ended before, and takes the rows of undone ones away.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import DatabaseUnavailable, SessionBusy
from agent_service.runs.run_rows import one

POLL_SECONDS = 30.0
"""Between two looks for rows that were left behind: whoever wanted the undo mostly takes them away at once."""

LEFT_SECONDS = 60
"""After its end: readers of an undone run have seen it end by then."""


async def roll_back(pool: Pool, thread_id: str, run_ids: Sequence[str], by: UUID | None = None) -> None:
    """Undoes what runs that have ended did to the state of their thread, and deletes them.

    `by`: the run that asks for it. Raises SessionBusy when another one has begun meanwhile: it goes on from that state.
    """
    async with connection(pool) as conn, conn.transaction():
        await conn.execute("SELECT 1 FROM slipway.sessions WHERE id = %s FOR UPDATE", (thread_id,))
        if await one(conn, RUNNING, thread_id, by):
            raise SessionBusy("another run of this thread has begun; nothing is undone", retry_after=1)
        values = {"thread": thread_id, "runs": list(run_ids)}
        resumed = await (await conn.execute(RESUMED, values)).fetchone()
        await let_go(conn, run_ids)
        behind = CHANGES_BEHIND if by else ()  # a run in their place: all behind them is undone, too
        for statement in (*behind, *ROLL_BACK, *([TAKE_BACK] if resumed else ())):
            await conn.execute(statement, values)


async def let_go(conn: Connection, run_ids: Sequence[str]) -> None:
    """Runs that went on after these stay when these are deleted."""
    await conn.execute("UPDATE slipway.runs SET resumes = NULL WHERE resumes = ANY(%s::uuid[])", (list(run_ids),))


async def forget(pool: Pool, run_ids: Sequence[str]) -> set[str]:
    """Deletes those that were undone as they ended. Returns their ids."""
    async with connection(pool) as conn, conn.transaction():
        rows = await (await conn.execute(LOCK_UNDONE, (list(run_ids),))).fetchall()
        return await _forget(conn, [str(row["id"]) for row in rows])


async def forget_left(pool: Pool) -> set[str]:
    """Deletes those whose canceller died, or left, before it could. Returns their ids."""
    async with connection(pool) as conn, conn.transaction():
        rows = await (await conn.execute(LOCK_LEFT, (LEFT_SECONDS,))).fetchall()
        return await _forget(conn, [str(row["id"]) for row in rows])


async def forget_forever(pool: Pool) -> None:
    """The loop of one process."""
    while True:
        with suppress(DatabaseUnavailable):
            await forget_left(pool)
        await asyncio.sleep(POLL_SECONDS)


async def _forget(conn: Connection, run_ids: list[str]) -> set[str]:
    if run_ids:
        await let_go(conn, run_ids)
        await conn.execute("DELETE FROM slipway.runs WHERE id = ANY(%s::uuid[])", (run_ids,))
    return {*run_ids}


RUNNING = "SELECT 1 FROM slipway.runs WHERE session_id = %s AND status = 'running' AND id IS DISTINCT FROM %s LIMIT 1"

RESUMED = (
    b"SELECT 1 FROM slipway.runs WHERE session_id = %(thread)s AND id = ANY(%(runs)s::uuid[]) AND resumes IS NOT NULL LIMIT 1"
)

TAKE_BACK = b"SELECT slipway.take_back_answer(%(thread)s)"

# Changes by hand name no run. Checkpoint ids sort by time. Their writes first, as they are found by them; that they were forks is
# told by runs which are deleted after this.
OF_CHANGES = b"""
FROM public.checkpoints c WHERE c.thread_id = %(thread)s AND c.metadata->>'run_id' IS NULL AND c.checkpoint_id > (
    SELECT min(f.checkpoint_id) FROM public.checkpoints f
    WHERE f.thread_id = %(thread)s AND f.checkpoint_ns = '' AND f.metadata->>'run_id' = ANY(%(runs)s))
"""

CHANGES_BEHIND = (
    b"DELETE FROM public.checkpoint_writes w WHERE w.thread_id = %(thread)s AND (w.checkpoint_ns, w.checkpoint_id) IN ("
    b"SELECT c.checkpoint_ns, c.checkpoint_id" + OF_CHANGES + b")",
    b"DELETE FROM public.checkpoints d WHERE d.thread_id = %(thread)s AND (d.checkpoint_ns, d.checkpoint_id) IN ("
    b"SELECT c.checkpoint_ns, c.checkpoint_id" + OF_CHANGES + b")",
    b"""DELETE FROM slipway.forks f WHERE f.session_id = %(thread)s AND f.created_at > (
    SELECT min(r.created_at) FROM slipway.runs r WHERE r.session_id = %(thread)s AND r.id = ANY(%(runs)s::uuid[]))""",
)

ROLL_BACK = (
    b"SELECT slipway.delete_states(%(thread)s, %(runs)s)",
    b"DELETE FROM slipway.runs WHERE session_id = %(thread)s AND id = ANY(%(runs)s::uuid[]) AND status = 'finished'",
)

LOCK_UNDONE = b"SELECT id FROM slipway.runs WHERE id = ANY(%s::uuid[]) AND undo AND status = 'finished' FOR UPDATE"

LOCK_LEFT = b"""
SELECT id FROM slipway.runs WHERE undo AND status = 'finished' AND finished_at < now() - %s * interval '1 second'
ORDER BY finished_at LIMIT 500 FOR UPDATE SKIP LOCKED
"""
