"""Leases: who executes a run. Each transition is one statement with its guard in the WHERE clause.

A lease is (holder, attempt, lease_expires_at) in the run's row; `attempt` is the fencing token. Times are the database's.
docs/developer/durable-runs.md has the state diagram.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from agent_service.db.pool import Pool, connection
from agent_service.runs.model import Run
from agent_service.runs.store import RUN_COLUMNS, as_run

Reason = Literal["queued", "handover", "crash"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is now this process's, and why it was to be had."""

    run: Run
    reason: Reason


class Leases:
    def __init__(self, pool: Pool, *, holder: str, lease_seconds: float) -> None:
        self._pool = pool
        self._holder = holder
        self._lease_seconds = lease_seconds

    async def claim(self, places: int, *, adopt: bool, held: Sequence[UUID] = ()) -> list[Claimed]:
        """Takes queued runs, and with `adopt` runs whose lease has expired, each under its next attempt.

        `held`: runs that execute here. After a pause their leases may have run out; renewing them is enough.
        """
        values = {"holder": self._holder, "lease": self._lease_seconds, "places": places, "adopt": adopt, "held": list(held)}
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(CLAIM.encode(), values)).fetchall()
        return [_claimed(row) for row in rows]

    async def renew(self, runs: Sequence[tuple[UUID, int]]) -> dict[UUID, bool]:
        """Extends the leases of all these (run, attempt) at once.

        Returns the runs that are still ours, with whether somebody asked to cancel them; what is missing is lost.
        """
        ids, attempts = [run for run, _ in runs], [attempt for _, attempt in runs]
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(RENEW, (self._lease_seconds, ids, attempts))).fetchall()
        return {row["id"]: row["cancel_requested"] for row in rows}

    async def forgive(self, run_id: UUID, attempt: int) -> None:
        """Takes back the crash that was counted when a peer adopted this attempt: its process is alive, it was only slow."""
        async with connection(self._pool) as conn:
            await conn.execute(FORGIVE, (run_id, attempt))

    async def queued_here(self) -> int:
        """Runs that this process accepted and that still wait for a place anywhere."""
        async with connection(self._pool) as conn:
            row = await (await conn.execute(QUEUED_HERE, (self._holder,))).fetchone()
        return int(row["count"]) if row else 0


def _claimed(row: dict[str, Any]) -> Claimed:
    was_running = row.pop("was") == "running"
    run = as_run(row)
    assert run is not None  # noqa: S101  # the row is there
    if was_running:
        return Claimed(run, "crash")
    return Claimed(run, "handover" if run.attempt > 1 else "queued")


# After a restart of the database every lease has run out: holders get the time of one lease to renew before anyone adopts.
# Of a session's queued runs only the first may start, a decision before all others, and none while one is running
# or (but for the decision itself) while a decision is waited for.
CLAIM = f"""
WITH candidate AS (
    SELECT id, status AS was FROM slipway.runs r
    WHERE (status = 'running' AND %(adopt)s AND lease_expires_at < now() AND id <> ALL(%(held)s)
           AND pg_postmaster_start_time() < now() - %(lease)s * interval '1 second')
       OR (status = 'queued'
           AND NOT EXISTS (
               SELECT 1 FROM slipway.runs other
               WHERE other.session_id = r.session_id AND other.id <> r.id AND other.status <> 'finished'
                 AND (other.status = 'running'
                      OR (other.resumes IS NULL, other.created_at, other.id) < (r.resumes IS NULL, r.created_at, r.id)))
           AND (r.resumes IS NOT NULL OR NOT EXISTS (
               SELECT 1 FROM slipway.runs asked
               WHERE asked.session_id = r.session_id AND asked.outcome = 'interrupted'
                 AND NOT EXISTS (SELECT 1 FROM slipway.runs later WHERE later.resumes = asked.id))))
    ORDER BY created_at LIMIT %(places)s
), taken AS (
    SELECT r.id, r.status AS was FROM slipway.runs r JOIN candidate c USING (id)
    WHERE r.status = c.was AND (r.status = 'queued' OR r.lease_expires_at < now())
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE slipway.runs r
SET status = 'running', attempt = attempt + 1, crashes = crashes + (r.status = 'running')::int, holder = %(holder)s,
    lease_expires_at = now() + %(lease)s * interval '1 second', started_at = coalesce(started_at, now())
FROM taken WHERE r.id = taken.id
RETURNING {RUN_COLUMNS}, taken.was
"""

RENEW = """
UPDATE slipway.runs r SET lease_expires_at = now() + %s * interval '1 second'
FROM unnest(%s::uuid[], %s::int[]) AS mine (id, attempt)
WHERE r.id = mine.id AND r.attempt = mine.attempt AND r.status = 'running'
RETURNING r.id, r.cancel_requested
"""

FORGIVE = "UPDATE slipway.runs SET crashes = crashes - 1 WHERE id = %s AND attempt > %s AND status <> 'finished' AND crashes > 0"

QUEUED_HERE = "SELECT count(*) AS count FROM slipway.runs WHERE status = 'queued' AND holder = %s"
