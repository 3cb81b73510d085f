"""The log of events, for who reads it: a page at a time."""

from collections.abc import Iterable, Mapping
from sys import intern
from typing import get_args
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from agent_service.db.pool import Pool, connection
from agent_service.runs.events import START, Event, EventKind, Position
from agent_service.runs.expired import remaining_events
from agent_service.runs.run_rows import RUN_COLUMNS, as_run, one
from agent_service.runs.run_types import Run
from agent_service.runs.usage import run_usage

PAGE_BYTES = 8_192
"""Of JSON that are read at once for a stream: what it holds while its reader does not read."""

PAGE_ROWS = 16
"""Rows of which a page is made: a run writes ten a second, often of 300 bytes; those that are looked at in vain cost, too."""

EXPIRED_EVENTS = 16
"""Of a pruned run that are shown at once, each with up to 4,096 characters of the answer."""

WATCH_SECONDS = 30
"""For how long the process that executes a run tells of its events, after somebody elsewhere has asked for them."""


class EventLog:
    """Reads slipway.run_events; the writer writes it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def watch(self, run_id: UUID) -> None:
        """Asks whichever process executes the run to tell of its events (NOTIFY) for WATCH_SECONDS."""
        async with connection(self._pool) as conn:
            await conn.execute(WATCH, (WATCH_SECONDS, run_id, WATCH_SECONDS / 2))

    async def watched(self, run_id: UUID) -> bool:
        """Whether a process that does not execute the run has asked for its events."""
        async with connection(self._pool) as conn:
            return await one(conn, "SELECT 1 FROM slipway.runs WHERE id = %s AND watched_until > now()", run_id) is not None

    async def read(self, run_id: UUID, after: Position) -> tuple[list[Event], bool]:
        """The next page of logged events after a position, and whether the run has ended: then an empty page is the last.

        Of a run whose events were pruned: what its row still tells.
        """
        async with connection(self._pool) as conn:
            cursor = await conn.execute(READ_EVENTS, (after.attempt, after.attempt, after.seq, run_id))
            rows = await cursor.fetchall()
        if rows and rows[0]["events_pruned"]:
            return await self._read_expired(run_id, after), True
        events = [event for row in rows if row["events"] for event in _unpack(row) if event.position > after]
        return events, not rows or rows[0]["status"] == "finished"

    async def read_all(self, run_id: UUID) -> list[Event]:
        """Every logged event of a run: for a recovery, not for a reader, who takes pages."""
        events: list[Event] = []
        while page := (await self.read(run_id, events[-1].position if events else START))[0]:
            events += page
        return events

    async def before(self, run: Run) -> list[Event]:
        """What earlier attempts at the run have logged."""
        return [event for event in await self.read_all(run.id) if event.attempt < run.attempt]

    async def _read_expired(self, run_id: UUID, after: Position) -> list[Event]:
        async with connection(self._pool) as conn:
            run = as_run(await one(conn, f"SELECT {RUN_COLUMNS} FROM slipway.runs r WHERE id = %s", run_id))
        return remaining_events(run, await run_usage(self._pool, run_id), after)[:EXPIRED_EVENTS] if run else []


KINDS: Mapping[str, EventKind] = {kind: kind for kind in get_args(EventKind)}
"""One object for each kind: a page of the log holds hundreds of events."""


def _unpack(batch: DictRow) -> Iterable[Event]:
    for offset, (kind, node, payload) in enumerate(orjson.loads(batch["events"])):
        yield Event(batch["attempt"], batch["first_seq"] + offset, KINDS[kind], intern(node), payload)


WATCH = """
UPDATE slipway.runs SET watched_until = now() + %s * interval '1 second'
WHERE id = %s AND status <> 'finished' AND (watched_until IS NULL OR watched_until < now() + %s * interval '1 second')
"""

# One statement, one snapshot: the status "finished" means that all events are there, or that they were pruned.
# At least one row, and further ones up to PAGE_BYTES: as much as a reader that does not read may make us hold.
READ_EVENTS = f"""
SELECT r.status, r.events_pruned, e.attempt, e.first_seq, e.events
FROM slipway.runs r
LEFT JOIN LATERAL (
    SELECT rows.*, sum(octet_length(rows.events)) OVER (ORDER BY rows.attempt, rows.first_seq) AS upto
    FROM (SELECT b.attempt, b.first_seq, b.events::text FROM slipway.run_events b
          WHERE b.run_id = r.id AND (b.attempt > %s OR (b.attempt = %s AND b.last_seq > %s))
          ORDER BY b.attempt, b.first_seq LIMIT {PAGE_ROWS}) AS rows
) AS e ON e.upto <= {PAGE_BYTES} OR e.upto = octet_length(e.events)
WHERE r.id = %s
ORDER BY e.attempt, e.first_seq
"""
