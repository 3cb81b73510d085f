"""Retention: events of ended runs, old checkpoints, sessions past their age. In batches, beside everything else.

Nothing waits for it: rows are taken with SKIP LOCKED, transactions are short, and a pause follows each.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Self

import structlog
from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg.rows import DictRow

from agent_service.db.pool import Pool, connection, database_errors
from agent_service.errors import DatabaseUnavailable
from agent_service.metrics import TABLES, Metrics
from agent_service.runs.compaction import CompactingSaver
from agent_service.runs.run_rows import WAITS, one
from agent_service.runs.session_store import ERASE_SESSIONS
from agent_service.settings import Settings

log = structlog.stdlib.get_logger(__name__)

LOCK_KEY = 0x51_1B_0A_8
"""Advisory lock of a pass: one process at a time; the number only has to be ours."""

BATCH = 500
"""Runs or sessions of one statement; 500 runs with 2,500 event rows took 60 ms here."""

EPHEMERAL_DAYS = 10 / 1440
"""After the run of a thread that is for one run only: a client that lost its connection asks again within minutes."""

PAUSE_SECONDS = 0.05
"""After each batch, for everyone else."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept: `event_hours` after the end of a run; `session_days` after the last use, 0 for ever.

    `history_hours`, after the last use: older states of a thread of a LangGraph client.
    """

    event_hours: float
    session_days: float
    history_hours: float = 168.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.event_retention_hours, settings.session_retention_days, settings.thread_history_hours)


@dataclass(slots=True)
class Pruned:
    """What a pass removed: events of `runs` (in `event_rows` rows), old checkpoints of `threads`, whole `sessions`.

    `delta_threads` were left alone: their graph uses a DeltaChannel, whose value is spread over its checkpoints.
    """

    runs: int = 0
    event_rows: int = 0
    threads: int = 0
    delta_threads: int = 0
    sessions: int = 0


async def prune(pool: Pool, retention: Retention, *, pause: float = PAUSE_SECONDS) -> Pruned | None:
    """One pass; None when another process is at it.

    Raises:
        DatabaseUnavailable: what was done stays done, and the next pass does the rest.
    """
    async with _only_one(pool) as alone:
        if not alone:
            return None
        done = Pruned()
        await _erase_sessions(pool, retention.session_days, done, pause)
        await _erase_sessions(pool, EPHEMERAL_DAYS, done, pause, ephemeral=True)
        await _prune_events(pool, retention.event_hours, done, pause)
        await _compact_threads(pool, retention.history_hours, done, pause)
        await _forget_counts(pool)
        return done


async def prunable(pool: Pool, retention: Retention) -> Pruned:
    """What a pass would look at now; of threads, those that may hold old checkpoints, DeltaChannel or not."""
    async with connection(pool) as conn:
        counts = await (await conn.execute(COUNT_PRUNABLE.encode(), asdict(retention))).fetchone()
    return Pruned(**counts) if counts else Pruned()


async def prune_forever(pool: Pool, retention: Retention, interval: float, metrics: Metrics) -> None:
    """A pass every `interval` seconds; the processes start theirs apart."""
    await asyncio.sleep(random.uniform(0, interval))  # noqa: S311  # spreads load, guards nothing
    while True:
        try:
            await _pass(pool, retention, metrics)
        except DatabaseUnavailable:
            log.warning("prune_waits_for_database")
        await asyncio.sleep(interval)


async def _pass(pool: Pool, retention: Retention, metrics: Metrics) -> None:
    done = await prune(pool, retention)
    if done and any(asdict(done).values()):
        log.info("pruned", **asdict(done))
        for what in ("runs", "threads", "sessions"):
            metrics.pruned.labels(what).inc(getattr(done, what))
    async with connection(pool) as conn:
        for row in await (await conn.execute(TABLE_BYTES, (list(TABLES),))).fetchall():
            metrics.table_bytes.labels(row["name"]).set(row["bytes"])


@asynccontextmanager
async def _only_one(pool: Pool) -> AsyncIterator[bool]:
    # A lock of the transaction, not of the session: that one would stay behind in a transaction pooler.
    async with connection(pool) as conn, conn.transaction():
        row = await one(conn, TRY_LOCK, LOCK_KEY)
        yield bool(row and row["taken"])


async def _forget_counts(pool: Pool) -> None:
    """What callers have begun and spent in times that no limit asks for any more, and answers that are not given again."""
    async with connection(pool) as conn:
        await conn.execute(FORGET_CALLERS)
        await conn.execute(FORGET_ANSWERS)
        await conn.execute("DELETE FROM slipway.spending WHERE period < now() - interval '62 days'")


async def _prune_events(pool: Pool, hours: float, done: Pruned, pause: float) -> None:
    while True:
        async with connection(pool) as conn:
            row = await one(conn, PRUNE_EVENTS, hours, BATCH) or {}
        done.runs += row["runs"]
        done.event_rows += row["event_rows"]
        if row["runs"] < BATCH:
            return
        await asyncio.sleep(pause)


async def _erase_sessions(pool: Pool, days: float, done: Pruned, pause: float, *, ephemeral: bool = False) -> None:
    while days:
        async with connection(pool) as conn, conn.transaction():
            asked = {"days": days, "batch": BATCH, "ephemeral": ephemeral}
            locked = await (await conn.execute(LOCK_OLD_SESSIONS, asked)).fetchall()
            # Asked again: a run that was stored while the lock was waited for is in no snapshot of that statement.
            known = {"ids": [row["id"] for row in locked], "days": days}
            ids = [row["id"] for row in await (await conn.execute(WITHOUT_RECENT_RUNS, known)).fetchall()]
            for statement in ERASE_SESSIONS:
                await conn.execute(statement.encode(), (ids,))
        done.sessions += len(ids)
        if not ids:
            return
        await asyncio.sleep(pause)


async def _compact_threads(pool: Pool, history_hours: float, done: Pruned, pause: float) -> None:
    saver = CompactingSaver(pool)
    asked: dict[str, object] = {"history_hours": history_hours, "batch": BATCH}
    after = (datetime.min, "")  # noqa: DTZ901  # PostgreSQL takes it as before every time stamp
    while True:
        async with connection(pool) as conn:
            page = {**asked, "since": after[0], "behind": after[1]}
            sessions = await (await conn.execute(IDLE_SESSIONS.encode(), page)).fetchall()
        for session in sessions:
            if not session["single"]:
                await _compact(pool, saver, session, done)
                await asyncio.sleep(pause / 10)
        if len(sessions) < BATCH:
            return
        after = (sessions[-1]["last_active_at"], sessions[-1]["id"])
        await asyncio.sleep(pause)


async def _compact(pool: Pool, saver: CompactingSaver, session: DictRow, done: Pruned) -> None:
    """A run that starts meanwhile loses nothing: one snapshot is compacted, its latest checkpoint is kept, and what the run
    goes on from is that one or a newer one.
    """
    with database_errors():
        try:
            await saver.compact(session["id"])
            done.threads += 1
        except NotImplementedError:
            done.delta_threads += 1
        except (SerializationFailure, DeadlockDetected):
            return  # the session was erased or used just then; the next pass looks again
    async with connection(pool) as conn:
        await conn.execute(MARK_COMPACTED, (session["last_active_at"], session["id"]))


PRUNE_EVENTS = """
WITH expired AS (
    SELECT id FROM slipway.runs
    WHERE status = 'finished' AND NOT events_pruned AND finished_at < now() - %s * interval '1 hour'
    ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM slipway.run_events e USING expired WHERE e.run_id = expired.id RETURNING 1
), marked AS (
    UPDATE slipway.runs r SET events_pruned = true, sources = coalesce(r.sources, slipway.cited(r.id))
    FROM expired WHERE r.id = expired.id RETURNING 1
)
SELECT (SELECT count(*) FROM marked) AS runs, (SELECT count(*) FROM gone) AS event_rows
"""

# A decision that is waited for does not keep a session beyond its age.
LOCK_OLD_SESSIONS = """
SELECT id FROM slipway.sessions s
WHERE last_active_at < now() - %(days)s * interval '1 day' AND (ephemeral OR NOT %(ephemeral)s) AND NOT EXISTS (
    SELECT 1 FROM slipway.runs r WHERE r.session_id = s.id
    AND (r.status <> 'finished' OR r.finished_at >= now() - %(days)s * interval '1 day'))
ORDER BY last_active_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED
"""

# A resume does not touch the session's row, so a lock that was waited for does not show it.
WITHOUT_RECENT_RUNS = """
SELECT known.id FROM unnest(%(ids)s::text[]) AS known (id)
WHERE NOT EXISTS (
    SELECT 1 FROM slipway.runs r WHERE r.session_id = known.id
    AND (r.status <> 'finished' OR r.finished_at >= now() - %(days)s * interval '1 day'))
"""

IDLE = f"""
s.compacted_at IS DISTINCT FROM s.last_active_at
  AND (NOT s.metadata ? 'graph_id' OR s.last_active_at < now() - %(history_hours)s * interval '1 hour')
  AND NOT EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = s.id AND r.status <> 'finished')
  AND NOT EXISTS (
      SELECT 1 FROM slipway.runs asked WHERE asked.session_id = s.id AND {WAITS.format(run="asked")})
"""

# A session with one state, as after one turn, has nothing to lose. All of a page are marked here: to compact one costs 1.5 ms of
# this process and as much of the database, a quarter of a turn. Whoever holds its row is using it.
IDLE_SESSIONS = f"""
WITH idle AS (
    SELECT s.id, s.last_active_at, NOT EXISTS (
        SELECT 1 FROM public.checkpoints c WHERE c.thread_id = s.id OFFSET 1) AS single
    FROM slipway.sessions s
    WHERE {IDLE} AND (s.last_active_at, s.id) > (%(since)s, %(behind)s)
    ORDER BY s.last_active_at, s.id LIMIT %(batch)s
), singles AS (
    SELECT s.id, s.last_active_at FROM slipway.sessions s JOIN idle ON idle.id = s.id
    WHERE idle.single AND s.last_active_at = idle.last_active_at FOR NO KEY UPDATE OF s SKIP LOCKED
), marked AS (
    UPDATE slipway.sessions s SET compacted_at = singles.last_active_at FROM singles WHERE s.id = singles.id
)
SELECT id, last_active_at, single FROM idle ORDER BY last_active_at, id
"""

# The time that was read: a session used since then comes up again.
MARK_COMPACTED = "UPDATE slipway.sessions SET compacted_at = %s WHERE id = %s"

COUNT_PRUNABLE = f"""
SELECT count(*) AS runs, coalesce(sum(events), 0)::bigint AS event_rows,
       (SELECT count(*) FROM slipway.sessions s WHERE {IDLE}) AS threads,
       (SELECT count(*) FROM slipway.sessions s
        WHERE %(session_days)s > 0 AND s.last_active_at < now() - %(session_days)s * interval '1 day'
          AND NOT EXISTS (
              SELECT 1 FROM slipway.runs r WHERE r.session_id = s.id
              AND (r.status <> 'finished' OR r.finished_at >= now() - %(session_days)s * interval '1 day'))) AS sessions
FROM (
    SELECT (SELECT count(*) FROM slipway.run_events e WHERE e.run_id = r.id) AS events FROM slipway.runs r
    WHERE r.status = 'finished' AND NOT r.events_pruned AND r.finished_at < now() - %(event_hours)s * interval '1 hour'
) AS expired
"""

# Rows that a start holds are left for the next pass: a commit that wants two of them must not wait for us in another order.
FORGET_CALLERS = """
DELETE FROM slipway.callers WHERE (tenant, user_id) IN (
    SELECT tenant, user_id FROM slipway.callers WHERE minute < now() - interval '1 hour' FOR UPDATE SKIP LOCKED)
"""

FORGET_ANSWERS = """
DELETE FROM slipway.answers a WHERE a.expires_at < now()
    OR (a.expires_at IS NULL AND EXISTS (SELECT 1 FROM slipway.runs r WHERE r.id = a.maker AND r.status = 'finished'))
"""

TABLE_BYTES = """
SELECT relname AS name, pg_total_relation_size(oid)::float8 AS bytes FROM pg_class
WHERE relkind = 'r' AND relname = ANY(%s) AND relnamespace IN ('slipway'::regnamespace, 'public'::regnamespace)
"""

# The transaction stands idle for as long as the pass, and keeps nobody waiting.
TRY_LOCK = """
SELECT pg_try_advisory_xact_lock(%s) AS taken, set_config('idle_in_transaction_session_timeout', '0', true)
"""
