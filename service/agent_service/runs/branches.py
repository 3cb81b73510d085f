"""Branches of a session: a run that began at an earlier checkpoint leaves behind what was said after it.

Its row says which run had made the checkpoint, as it is known when it begins: checkpoints are pruned later, runs are not.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict
from uuid import UUID

from psycopg.rows import DictRow

from agent_service.db.pool import Connection
from agent_service.runs.run_rows import UNDONE, one

Keeps = Literal["all", "question", "none"]
"""Of the run that made the checkpoint: it had ended there, it had not answered yet, or its question was not taken yet."""

Place = tuple[datetime, UUID]
"""Of a run in its session."""


class Branch(TypedDict):
    """Where a run began. `run`: id of the one that made the checkpoint."""

    run: str
    keeps: Keeps


@dataclass(slots=True)
class LeftBehind:
    """What a history leaves out: runs between two others (`ranges`, apart from each other, the latest first), single runs, and
    answers of runs whose question stays."""

    ranges: list[tuple[Place, Place]] = field(default_factory=list)
    runs: set[UUID] = field(default_factory=set)
    answers: set[UUID] = field(default_factory=set)

    def has(self, place: Place) -> bool:
        if place[1] in self.runs:
            return True
        at = bisect_left(self.ranges, True, key=lambda each: each[0] < place)
        return at < len(self.ranges) and place < self.ranges[at][1]


async def branch_at(conn: Connection, thread: str, checkpoint_id: str, *, asks: bool) -> Branch | None:
    """The branch of a run that begins there, in a session whose row is locked. None where no run had made the checkpoint.

    Args:
        asks: it brings a question, and does not only go on.
    """
    made = await one(conn, MADE, thread, checkpoint_id)
    if made is None or made["run"] is None or (made["latest"] and made["ended"]):
        return None
    if made["source"] == "input":
        return {"run": made["run"], "keeps": "none" if asks else "question"}
    return {"run": made["run"], "keeps": "all" if made["last"] and made["ended"] else "question"}


async def left_behind(conn: Connection, thread: str) -> LeftBehind:
    """What the session's branches have left behind."""
    rows = await (await conn.execute(BRANCHES.encode(), (thread,))).fetchall()
    return of_branches(rows)


def of_branches(rows: Iterator[DictRow] | list[DictRow]) -> LeftBehind:
    """Of branches, the newest first: one that was left behind itself leaves nothing behind. One whose question was asked anew
    counts, as it says where the new one comes from."""
    found = LeftBehind()
    for row in rows:
        place, base = (row["created_at"], row["id"]), (row["base_at"], row["base"])
        if found.ranges and place > found.ranges[-1][0]:  # each range ends before the one before it begins
            continue
        found.ranges.append((base, place))
        if row["keeps"] == "none":
            found.runs.add(row["base"])
        elif row["keeps"] == "question":
            found.answers.add(row["base"])
    return found


# A checkpoint is the last of its run when none behind it is of that run, and the latest when none is behind it: then nothing is
# left behind, and no branch begins. A run that goes on has said nothing yet of what the branch knows.
MADE = """
SELECT c.metadata->>'run_id' AS run, c.metadata->>'source' AS source,
    NOT EXISTS (
        SELECT 1 FROM public.checkpoints later
        WHERE later.thread_id = c.thread_id AND later.checkpoint_ns = '' AND later.checkpoint_id > c.checkpoint_id
          AND later.metadata->>'run_id' = c.metadata->>'run_id') AS last,
    NOT EXISTS (
        SELECT 1 FROM public.checkpoints later
        WHERE later.thread_id = c.thread_id AND later.checkpoint_ns = '' AND later.checkpoint_id > c.checkpoint_id) AS latest,
    NOT EXISTS (
        SELECT 1 FROM slipway.runs r WHERE r.id::text = c.metadata->>'run_id' AND r.session_id = c.thread_id
          AND r.status <> 'finished') AS ended
FROM public.checkpoints c WHERE c.thread_id = %s AND c.checkpoint_ns = '' AND c.checkpoint_id = %s
"""

BRANCHES = f"""
SELECT r.id, r.created_at, r.branch->>'keeps' AS keeps, base.id AS base, base.created_at AS base_at
FROM slipway.runs r JOIN slipway.runs base ON base.id = (r.branch->>'run')::uuid AND base.session_id = r.session_id
WHERE r.session_id = %s AND r.branch IS NOT NULL AND NOT {UNDONE}
ORDER BY r.created_at DESC, r.id DESC
"""
