"""Branches of a session: a run that began at an earlier checkpoint leaves behind what was said after it, and so does a change of
an earlier state by hand (a fork: LangGraph's `update_state`), which the session goes on from.

Its row says which run had made the checkpoint, as it is known when it begins: checkpoints are pruned later, runs are not.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypedDict
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from agent_service.db.pool import Connection
from agent_service.runs.run_rows import UNDONE

Keeps = Literal["all", "question", "none"]
"""Of the run that made the checkpoint: it had ended there, it had not answered yet, or its question was not taken yet."""

Place = tuple[datetime, UUID]
"""Of a run in its session."""

BEGIN: Place = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
"""Of a session: before all its runs."""

MAX_LINE = 1_000
"""States without a run of the session (changed by hand, copied) that are looked through for the one that is behind them."""


class Branch(TypedDict):
    """Where a run began. `run`: id of the one that made the checkpoint; None: the checkpoint was there before the first run."""

    run: str | None
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
    """The branch of what begins there, in a session whose row is locked. None where nothing is left behind, or where that is not
    known: states between it and a run of the session are gone.

    Args:
        asks: it brings a question, and does not only go on.
    """
    asked = {"thread": thread, "checkpoint": checkpoint_id, "most": MAX_LINE}
    found = await (await conn.execute(MADE.encode(), asked)).fetchone()
    if found is None or (found["latest"] and found["ended"] and not found["going"]):
        return None
    if not found["own"]:
        return None if found["parent"] else {"run": None, "keeps": "all"}
    if found["source"] == "input":  # a change by hand takes the place of the question that was yet to be taken
        return {"run": found["run"], "keeps": "none" if asks or found["step"] else "question"}
    return {"run": found["run"], "keeps": "all" if found["last"] and found["ended"] else "question"}


async def fork(conn: Connection, thread: str, checkpoint_id: str, *, copies: bool) -> None:
    """Keeps that the state of that checkpoint is to be changed, in a session whose row is locked and of which no run is going.

    Args:
        copies: nothing is changed: what was to come next still is.
    """
    if branch := await branch_at(conn, thread, checkpoint_id, asks=not copies):
        await conn.execute(FORK.encode(), {"thread": thread, "branch": Jsonb(branch)})


async def left_behind(conn: Connection, thread: str) -> LeftBehind:
    """What the session's branches have left behind."""
    rows = await (await conn.execute(BRANCHES.encode(), {"thread": thread})).fetchall()
    return of_branches(rows)


def of_branches(rows: Iterator[DictRow] | list[DictRow]) -> LeftBehind:
    """Of branches, the newest first: one that was left behind itself leaves nothing behind. One whose question was asked anew
    counts, as it says where the new one comes from."""
    found = LeftBehind()
    for row in rows:
        place = (row["created_at"], row["id"])
        base = (row["base_at"], row["base"]) if row["base"] else BEGIN
        if found.ranges and place > found.ranges[-1][0]:  # each range ends before the one before it begins
            continue
        found.ranges.append((base, place))
        if row["keeps"] == "none":
            found.runs.add(row["base"])
        elif row["keeps"] == "question":
            found.answers.add(row["base"])
    return found


# States may come from elsewhere, made by runs whose ids have another form.
OF_RUN = """
r.id = CASE WHEN c.metadata->>'run_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN (c.metadata->>'run_id')::uuid END
AND r.session_id = c.thread_id
"""

# From the checkpoint to the first one behind it that a run of the session had made: a change by hand names no run, a copied
# thread another's. A checkpoint is the last of its run when none behind it is of that run, and the latest when none is behind it:
# then nothing is left behind, and no branch begins, unless a run that goes on has yet to make one. A run that goes on has said
# nothing yet of what the branch knows.
MADE = f"""
WITH RECURSIVE line AS (
    SELECT c.checkpoint_id AS id, c.parent_checkpoint_id AS parent, c.metadata->>'source' AS source, r.id::text AS run,
        r.id IS NOT NULL AS own, coalesce(r.status = 'finished', true) AS ended, 0 AS step
    FROM public.checkpoints c
    LEFT JOIN slipway.runs r ON {OF_RUN}
    WHERE c.thread_id = %(thread)s AND c.checkpoint_ns = '' AND c.checkpoint_id = %(checkpoint)s
    UNION ALL
    SELECT c.checkpoint_id, c.parent_checkpoint_id, c.metadata->>'source', r.id::text,
        r.id IS NOT NULL, coalesce(r.status = 'finished', true), line.step + 1
    FROM line JOIN public.checkpoints c
        ON c.thread_id = %(thread)s AND c.checkpoint_ns = '' AND c.checkpoint_id = line.parent
    LEFT JOIN slipway.runs r ON {OF_RUN}
    WHERE NOT line.own AND line.step < %(most)s
)
SELECT line.*,
    NOT EXISTS (
        SELECT 1 FROM public.checkpoints later
        WHERE later.thread_id = %(thread)s AND later.checkpoint_ns = '' AND later.checkpoint_id > line.id
          AND later.metadata->>'run_id' = line.run) AS last,
    NOT EXISTS (
        SELECT 1 FROM public.checkpoints later
        WHERE later.thread_id = %(thread)s AND later.checkpoint_ns = '' AND later.checkpoint_id > %(checkpoint)s) AS latest,
    EXISTS (
        SELECT 1 FROM slipway.runs r WHERE r.session_id = %(thread)s AND r.status <> 'finished'
          AND (r.not_before IS NULL OR r.not_before <= now())) AS going
FROM line ORDER BY step DESC LIMIT 1
"""

# Where no run has ended yet, nothing can be left behind. Behind the last fork, too: of two with no run between, the later counts.
FORK = """
INSERT INTO slipway.forks (session_id, branch, created_at)
SELECT %(thread)s, %(branch)s, greatest(max(created_at), (
    SELECT max(f.created_at) FROM slipway.forks f WHERE f.session_id = %(thread)s)) + interval '1 microsecond'
FROM slipway.runs WHERE session_id = %(thread)s AND status = 'finished' HAVING count(*) > 0
"""

# Without the row of the run that made its checkpoint (it was deleted) a branch does not tell what it leaves behind.
BRANCHES = f"""
SELECT made.id, made.created_at, made.branch->>'keeps' AS keeps, base.id AS base, base.created_at AS base_at
FROM (
    SELECT r.id, r.created_at, r.branch FROM slipway.runs r
    WHERE r.session_id = %(thread)s AND r.branch IS NOT NULL AND r.branch->'begun' IS NULL AND NOT {UNDONE}
    UNION ALL SELECT f.id, f.created_at, f.branch FROM slipway.forks f WHERE f.session_id = %(thread)s
) AS made LEFT JOIN slipway.runs base ON base.id = (made.branch->>'run')::uuid AND base.session_id = %(thread)s
WHERE base.id IS NOT NULL OR made.branch->>'run' IS NULL
ORDER BY made.created_at DESC, made.id DESC
"""
