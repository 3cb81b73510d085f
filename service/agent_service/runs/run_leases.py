"""Leases: who executes a run. Each transition is one statement with its guard in the WHERE clause.

A lease is (holder, attempt, lease_expires_at) in the run's row; `attempt` is the fencing token. Times are the database's.
docs/developer/durable-runs.md has the state diagram.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from agent_service.db.pool import Pool, connection
from agent_service.runs.run_rows import RUN_COLUMNS, as_run
from agent_service.runs.run_store import CLAIMABLE
from agent_service.runs.run_types import DEFAULT_GRAPH, Run

Owner = tuple[str, str]
"""Tenant and user."""

Reason = Literal["queued", "handover", "crash"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is now this process's, and why it was to be had."""

    run: Run
    reason: Reason
    alone: bool = False
    """It has one crash left: nothing may begin beside it until it has shown that it is harmless."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What a process wants to know of it."""

    here: Counter[Owner]
    """Runs that this process accepted and that still wait for a place anywhere, by whose they are."""
    budgets: bool
    """Somebody has a budget of their own."""
    next_expiry: float
    """Seconds until the next lease of another process runs out, if nobody renews it; infinite when there is none."""


class Leases:
    """Which runs this process (`holder`) executes, for `lease_seconds` at a time; the writer renews them.

    Args:
        graphs: names of those whose runs it may take. A run that is cancelled needs none.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        holder: str,
        lease_seconds: float,
        max_attempts: int,
        graphs: Callable[[], Sequence[str]] = lambda: [DEFAULT_GRAPH],
    ) -> None:
        self._pool = pool
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._graphs = graphs

    async def claim(
        self, places: int, *, adopt: bool, alone: bool = True, held: Sequence[UUID] = ()
    ) -> tuple[list[Claimed], Queue]:
        """Takes queued runs, and with `adopt` runs whose lease has expired, each under its next attempt; looks what is left.

        Args:
            alone: take a run that has one crash left, if there is one, and then nothing else.
            held: runs that execute here. After a pause their leases may have run out; renewing them is enough.
        """
        values = {
            "holder": self._holder,
            "lease": self._lease_seconds,
            "places": places,
            "adopt": adopt,
            "alone": alone,
            "alone_from": max(1, self._max_attempts - 1),
            "max_attempts": self._max_attempts,
            "held": list(held),
            "graphs": list(self._graphs()),
        }
        # Sent as a whole: the server gets to the commit by itself, whatever blocks this process meanwhile.
        async with connection(self._pool) as conn, conn.pipeline(), conn.transaction():
            claim = await conn.execute(CLAIM.encode(), values) if places > 0 else None
            look = await conn.execute(LOOK.encode(), values)
        claimed = [_claimed(row) for row in await claim.fetchall()] if claim else []
        left = await look.fetchone()
        assert left is not None  # noqa: S101  # a SELECT without FROM has one row
        here = Counter({(tenant, user): count for tenant, user, count in left["here"] or ()})
        return claimed, Queue(
            here, bool(left["budgets"]), float(left["next_expiry"] if left["next_expiry"] is not None else math.inf)
        )

    async def forgive(self, run_id: UUID, attempt: int) -> None:
        """Takes back the crash that was counted when a peer adopted this attempt: its process is alive, it was only slow."""
        async with connection(self._pool) as conn:
            await conn.execute(FORGIVE, (run_id, attempt))


def _claimed(row: DictRow) -> Claimed:
    was_running, alone = row.pop("was") == "running", row.pop("alone")
    run = as_run(row)
    assert run is not None  # noqa: S101  # the row is there
    if was_running:
        return Claimed(run, "crash", alone)
    return Claimed(run, "handover" if run.attempt > 1 else "queued", alone)


# After a restart of the database every lease has run out: holders get the time of one lease to renew before anyone adopts.
# A run that has one crash left goes alone (`alone`): it is taken with nothing beside it, if the process has room for that.
# Else the runs that happen to be beside a poisoned one in each process that it kills would be taken for poisoned, too.
# Callers take turns: first goes whose caller has the fewest runs executing and before it in the queue, so that one who asks
# 500 times keeps another waiting for one run. What a dead process left goes before all.
CLAIM = f"""
WITH free AS (
    SELECT r.id, r.status AS was, r.created_at,
           CASE r.status WHEN 'queued' THEN coalesce(going.count, 0)
                + row_number() OVER (PARTITION BY r.tenant, r.user_id, r.status ORDER BY r.created_at) ELSE 0 END AS turn,
           r.crashes + (r.status = 'running')::int BETWEEN %(alone_from)s AND %(max_attempts)s - 1 AS alone
    FROM slipway.runs r LEFT JOIN (
        SELECT tenant, user_id, count(*) FROM slipway.runs WHERE status = 'running' GROUP BY tenant, user_id
    ) AS going USING (tenant, user_id)
    WHERE ((r.status = 'running' AND %(adopt)s AND r.lease_expires_at < now() AND r.id <> ALL(%(held)s)
            AND pg_postmaster_start_time() < now() - %(lease)s * interval '1 second')
           OR ({CLAIMABLE}))
      AND (r.graph = ANY(%(graphs)s) OR r.cancel_requested)
), candidate AS (
    (SELECT * FROM free WHERE alone AND %(alone)s ORDER BY turn, created_at LIMIT 1)
    UNION ALL
    (SELECT * FROM free WHERE NOT alone AND NOT (%(alone)s AND EXISTS (SELECT 1 FROM free WHERE alone))
     ORDER BY turn, created_at LIMIT %(places)s)
), taken AS (
    SELECT r.id, r.status AS was, c.alone FROM slipway.runs r JOIN candidate c USING (id)
    WHERE r.status = c.was AND (r.status = 'queued' OR r.lease_expires_at < now())
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE slipway.runs r
SET status = 'running', attempt = attempt + 1, crashes = crashes + (r.status = 'running')::int, holder = %(holder)s,
    lease_expires_at = now() + %(lease)s * interval '1 second', started_at = coalesce(started_at, now())
FROM taken WHERE r.id = taken.id
RETURNING {RUN_COLUMNS}, taken.was, taken.alone
"""

FORGIVE = "UPDATE slipway.runs SET crashes = crashes - 1 WHERE id = %s AND attempt > %s AND status <> 'finished' AND crashes > 0"

# SKIP LOCKED: a transaction of the blocked loop may hold a row until its own time limit ends it.
GIVE_AWAY = """
WITH mine AS (
    SELECT r.id FROM slipway.runs r
    JOIN unnest(%s::uuid[], %s::int[]) AS mine (id, attempt) ON r.id = mine.id AND r.attempt = mine.attempt
    WHERE r.status = 'running' ORDER BY r.id FOR UPDATE OF r SKIP LOCKED
)
UPDATE slipway.runs r SET status = 'queued', lease_expires_at = NULL FROM mine WHERE r.id = mine.id
RETURNING r.id
"""

# What waits for a decision, or for a run of its session, waits for no place.
LOOK = f"""
SELECT (SELECT jsonb_agg(jsonb_build_array(tenant, user_id, count)) FROM (
            SELECT r.tenant, r.user_id, count(*) AS count FROM slipway.runs r
            WHERE r.holder = %(holder)s AND {CLAIMABLE}
            GROUP BY r.tenant, r.user_id) AS mine) AS here,
       EXISTS (SELECT 1 FROM slipway.budgets) AS budgets,
       (SELECT extract(epoch FROM min(lease_expires_at) - now()) FROM slipway.runs
        WHERE status = 'running' AND id <> ALL(%(held)s) AND graph = ANY(%(graphs)s)) AS next_expiry
"""
