"""A question asked again in other words: which runs of its session are undone, and whether they can be."""

from dataclasses import dataclass, field
from uuid import UUID

from agent_service.db.pool import Connection
from agent_service.errors import NotFound, StateGone
from agent_service.runs.branches import Branch
from agent_service.runs.run_rows import one
from agent_service.runs.run_types import RunInput


async def from_question_on(conn: Connection, thread: str, question: UUID) -> list[str]:
    """Ids of the run of that question and of all behind it, in a session whose row is locked.

    Raises:
        NotFound: the session has no such question.
        StateGone: what was said before it is kept with its answer only, and would go with that.
    """
    rows = await (await conn.execute(FROM_QUESTION_ON.encode(), (thread, question))).fetchall()
    if not rows:
        raise NotFound("replaces: the session has no such question", field="replaces")
    undone = [str(row["id"]) for row in rows]
    if not await one(conn, STATE_BEFORE, question, thread, undone, thread, undone):
        raise StateGone("replaces: the state before this question is no longer kept; ask a new one", field="replaces")
    return undone


@dataclass(frozen=True, slots=True)
class Begins:
    """Where the question in its place begins: in the same branch. `input` is put into the run's."""

    input: RunInput = field(default_factory=RunInput)
    branch: Branch | None = None


async def where_it_began(conn: Connection, thread: str, question: UUID) -> Begins:
    """Of a question of that session. Raises StateGone: it began a branch at a state that is no longer kept."""
    row = await one(conn, BEGAN, question, thread)
    if row is None:
        return Begins()
    if not row["kept"]:
        raise StateGone("replaces: the state before this question is no longer kept; ask a new one", field="replaces")
    return Begins({"checkpoint": row["checkpoint"]}, row["branch"])


BEGAN = """
SELECT r.branch - 'begun' AS branch, r.input->'checkpoint' AS checkpoint, EXISTS (
    SELECT 1 FROM public.checkpoints c WHERE c.thread_id = r.session_id AND c.checkpoint_ns = ''
      AND c.checkpoint_id = r.input->'checkpoint'->>'checkpoint_id') AS kept
FROM slipway.runs r WHERE r.id = %s AND r.session_id = %s AND r.branch IS NOT NULL
"""

FROM_QUESTION_ON = """
SELECT r.id FROM slipway.runs r JOIN slipway.runs first ON first.session_id = r.session_id
WHERE first.session_id = %s AND first.id = %s AND first.resumes IS NULL
  AND (r.created_at, r.id) >= (first.created_at, first.id)
"""

# Nothing was answered before it, or there is a checkpoint of another run than those that are undone, and no change by hand behind
# them, which goes with them: idle sessions keep their latest, and the one before their last question (compaction.py).
STATE_BEFORE = """
SELECT 1 WHERE NOT EXISTS (
    SELECT 1 FROM slipway.runs first JOIN slipway.runs r ON r.session_id = first.session_id
    WHERE first.id = %s AND r.outcome = 'completed' AND (r.created_at, r.id) < (first.created_at, first.id))
OR EXISTS (
    SELECT 1 FROM public.checkpoints c
    WHERE c.thread_id = %s AND c.checkpoint_ns = '' AND coalesce(c.metadata->>'run_id', '') <> ALL(%s)
      AND NOT (c.metadata->>'run_id' IS NULL AND c.checkpoint_id > (
          SELECT min(f.checkpoint_id) FROM public.checkpoints f
          WHERE f.thread_id = %s AND f.checkpoint_ns = '' AND f.metadata->>'run_id' = ANY(%s))))
"""
