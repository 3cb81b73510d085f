"""The log of events and the ledger: written in batches across all runs of the process, never a statement per token."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import intern
from typing import Any, get_args
from uuid import UUID

import orjson
import structlog
from psycopg.types.json import Jsonb

from agent_service.db.pool import LIMIT_IDLE, RETRY_SECONDS, Connection, Pool, connection, idle_limit
from agent_service.errors import DatabaseUnavailable
from agent_service.runs.expired import remaining_events
from agent_service.runs.live import LiveRun, LiveRuns, storable
from agent_service.runs.model import START, Ending, Event, EventKind, ModelCall, Position, Run
from agent_service.runs.notices import IDS_PER_NOTICE
from agent_service.runs.store import EVENTS_CHANNEL, RUN_COLUMNS, WORK_CHANNEL, as_run, one
from agent_service.runs.usage import run_usage

log = structlog.stdlib.get_logger(__name__)

ROW_BYTES = 4_096
"""Of JSON in one row of the log, unless one event is larger: what is read at once can be no less."""

PAGE_BYTES = 8_192
"""Of JSON that are read at once for a stream: what it holds while its reader does not read."""

PAGE_ROWS = 16
"""Rows of which a page is made: a run writes ten a second, often of 300 bytes; those that are looked at in vain cost, too."""

EXPIRED_EVENTS = 16
"""Of a pruned run that are shown at once, each with up to 4,096 characters of the answer."""

FLUSH_SECONDS = 0.1
"""How far the log may lag behind memory: what a crash may cost a reader, who then gets `reset`."""


class HandOver:
    """Instead of an ending: the run goes back into the queue, for a peer to go on from its last checkpoint."""


class EventLog:
    """One writer a process: it alone writes events, ledger and outcomes, so batches never overlap."""

    def __init__(
        self,
        pool: Pool,
        live: LiveRuns,
        on_lost: Callable[[LiveRun], None] = lambda _: None,
        *,
        readers: Pool | None = None,
        lease_seconds: float,
    ) -> None:
        self._idle_limit = idle_limit(lease_seconds)
        self._pool = pool
        self._readers = readers or pool
        self._live = live
        self._on_lost = on_lost
        self._endings: dict[LiveRun, tuple[Ending | HandOver, asyncio.Future[bool]]] = {}
        self._written: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self.exclusive = asyncio.Lock()
        """Held while rows of slipway.runs are locked: two statements of one process in two orders would deadlock."""

    async def run_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
            except DatabaseUnavailable:
                log.warning("the event log waits for the database")
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def finish(self, run: LiveRun, ending: Ending | HandOver) -> bool:
        """Writes the rest of the run and its outcome, or puts it back into the queue; waits while the database is away.

        Returns False when the run was no longer this attempt's to end.
        """
        done = asyncio.get_running_loop().create_future()
        self._endings[run] = (ending, done)
        self._wake.set()
        return await asyncio.shield(done)

    def abandon(self) -> None:
        """Nothing more is written: whoever waits goes on, and what was to be written is adopted as after a crash."""
        for _, done in self._endings.values():
            if not done.done():
                done.set_result(False)
        self._endings.clear()
        if self._written and not self._written.done():
            self._written.set_result(None)

    async def written(self, run: LiveRun) -> None:
        """Waits until the answer so far is in the log."""
        target = run.text_end
        while run.logged_events < target and not run.stopped:
            if self._written is None:
                self._written = asyncio.get_running_loop().create_future()
            self._wake.set()
            await asyncio.shield(self._written)

    async def flush(self) -> None:
        """Writes what is not yet written, of all runs, in one transaction."""
        runs = [run for run in {*self._live, *self._endings} if run in self._endings or run.unwritten]
        if not runs:
            return
        try:
            await self.write(runs)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # Whatever one run's content does must not hold up the others. (The message may quote it.)
            log.error("a batch was refused; writing run by run", error=type(error).__name__)  # noqa: TRY400  # no message
            for run in runs:
                await self._write_alone(run)
        if self._written:
            self._written.set_result(None)
            self._written = None

    async def _write_alone(self, run: LiveRun) -> None:
        try:
            await self.write([run])
        except DatabaseUnavailable:
            raise
        except Exception as error:
            name = type(error).__name__
            log.error("what a run wrote was refused and is dropped", error=name, **run.run.ids)  # noqa: TRY400  # likewise
            _drop_unwritten(run)
            if run in self._endings:
                refused = {"code": "internal", "message": "the answer could not be stored", "retryable": False}
                self._endings[run] = (Ending("failed", refused), self._endings[run][1])

    async def write(self, runs: Sequence[LiveRun]) -> None:
        """Writes what is not yet written of these, and the endings that wait, in one transaction."""
        began = time.time_ns()
        async with self.exclusive, connection(self._pool) as conn, conn.transaction(), conn.pipeline():
            await conn.execute(LIMIT_IDLE, (self._idle_limit,))
            # From here to the statements nothing is awaited: what is marked as written is just what is written.
            marks = [(run, len(run.events), len(run.calls)) for run in runs]
            endings = {run: self._endings[run] for run in runs if run in self._endings}
            alive = await _execute(conn, _statements(runs, {run: ending for run, (ending, _) in endings.items()}))
        ended = time.time_ns()
        for run, events, calls in marks:
            new = events - run.logged_events
            run.trace.wrote(began, ended, events=new, runs=len(runs), ends_run=run in endings)
            run.logged_events, run.logged_calls = events, calls
            if run.run.id not in alive:
                self._on_lost(run)
        for run, (_, done) in endings.items():
            del self._endings[run]
            done.set_result(run.run.id in alive)

    async def read(self, run_id: UUID, after: Position) -> tuple[list[Event], bool]:
        """The next page of logged events after a position, and whether the run has ended: then an empty page is the last.

        Of a run whose events were pruned: what its row still tells.
        """
        async with connection(self._readers) as conn:
            cursor = await conn.execute(READ_EVENTS, (after.attempt, after.attempt, after.seq, run_id))
            rows = await cursor.fetchall()
        if rows and rows[0]["events_pruned"]:
            return await self._read_expired(run_id, after), True
        events = [event for row in rows if row["events"] for event in _unpack(row) if event.position > after]
        return events, not rows or rows[0]["status"] == "finished"

    async def read_all(self, run_id: UUID) -> list[Event]:
        events: list[Event] = []
        while page := (await self.read(run_id, events[-1].position if events else START))[0]:
            events += page
        return events

    async def _read_expired(self, run_id: UUID, after: Position) -> list[Event]:
        async with connection(self._readers) as conn:
            run = as_run(await one(conn, f"SELECT {RUN_COLUMNS} FROM slipway.runs r WHERE id = %s", run_id))
        return remaining_events(run, await run_usage(self._readers, run_id), after)[:EXPIRED_EVENTS] if run else []


def _drop_unwritten(run: LiveRun) -> None:
    """Keeps the numbers of the events, and nothing of what they said."""
    kept = run.events[: run.logged_events]
    run.events = kept + [event._replace(payload="" if event.kind in TEXT_KINDS else {}) for event in run.events[len(kept) :]]
    del run.calls[run.logged_calls :]
    run.text, run.route = [], None


KINDS: Mapping[str, EventKind] = {kind: kind for kind in get_args(EventKind)}
"""One object for each kind: a page of the log holds hundreds of events."""

TEXT_KINDS = frozenset({"text", "message", "end"})
"""Kinds whose payload is a string."""

Statement = tuple[str, Sequence[Any]]


async def _execute(conn: Connection, statements: Sequence[Statement]) -> set[UUID]:
    """Runs them all in the open transaction; returns the ids that the first, the fence, let through."""
    fence, *_ = [await conn.execute(query.encode(), values) for query, values in statements]
    return {row["id"] for row in await fence.fetchall()}


def _statements(runs: Sequence[LiveRun], endings: Mapping[LiveRun, Ending | HandOver]) -> list[Statement]:
    """What is to be written, fenced: of runs that are no longer this process's nothing is."""
    statements: list[Statement] = [(FENCE, _keys([run.run for run in runs]))]
    if batches := [batch for run in runs if run.logged_events < len(run.events) for batch in _batches(run)]:
        statements.append((INSERT_EVENTS, [list(column) for column in zip(*batches, strict=True)]))
    if calls := [_ledger_row(run, call) for run in runs for call in run.calls[run.logged_calls :]]:
        statements.append((INSERT_LEDGER, [Jsonb(calls)]))
    if ended := [_ending_row(run, ending) for run, ending in endings.items() if isinstance(ending, Ending)]:
        statements.append((FINISH_RUNS, [Jsonb(ended)]))
    if given := [run.run for run, ending in endings.items() if isinstance(ending, HandOver)]:
        statements.append((HAND_OVER, _keys(given)))
    if endings:
        statements.append((NOTIFY_WORK, [WORK_CHANNEL]))
    for start in range(0, len(runs), IDS_PER_NOTICE):
        ids = " ".join(str(run.run.id) for run in runs[start : start + IDS_PER_NOTICE])
        statements.append((NOTIFY, [EVENTS_CHANNEL, ids]))
    return statements


def _keys(runs: Sequence[Run]) -> list[Any]:
    return [[run.id for run in runs], [run.attempt for run in runs]]


def _unpack(batch: dict[str, Any]) -> Iterable[Event]:
    for offset, (kind, node, payload) in enumerate(orjson.loads(batch["events"])):
        yield Event(batch["attempt"], batch["first_seq"] + offset, KINDS[kind], intern(node), payload)


def _batches(run: LiveRun) -> Iterable[tuple[UUID, int, int, int, str]]:
    """Rows of at most ROW_BYTES, or of one event. What is written again is cut at the same places: ON CONFLICT relies on it."""
    new = run.events[run.logged_events :]
    packed = _pack(new)
    if len(packed) <= ROW_BYTES:
        yield run.run.id, run.run.attempt, new[0].seq, new[-1].seq, packed.decode()
        return
    row: list[Event] = []
    size = 0
    for event in new:
        length = len(_pack([event]))
        if row and size + length > ROW_BYTES:
            yield run.run.id, run.run.attempt, row[0].seq, row[-1].seq, _pack(row).decode()
            row, size = [], 0
        row.append(event)
        size += length
    yield run.run.id, run.run.attempt, row[0].seq, row[-1].seq, _pack(row).decode()


def _pack(events: Sequence[Event]) -> bytes:
    return orjson.dumps([(event.kind, event.node, event.payload) for event in events], default=str)


def _ledger_row(run: LiveRun, call: ModelCall) -> dict[str, Any]:
    return {
        "run_id": str(run.run.id),
        "attempt": run.run.attempt,
        "call": call.call,
        "node": storable(call.node),
        "model": storable(call.model),
        "input_tokens": call.input_tokens,
        "cached_tokens": call.cached_tokens,
        "output_tokens": call.output_tokens,
        "cost_usd": call.cost_usd,
        "estimated": call.estimated,
    }


def _ending_row(run: LiveRun, ending: Ending) -> dict[str, Any]:
    return {
        "id": str(run.run.id),
        "attempt": run.run.attempt,
        "outcome": ending.outcome,
        "answer": run.answer,
        "route": storable(run.route),
        "interrupts": storable(ending.interrupts) or None,
        "error": storable(ending.error),
    }


# First in the transaction: what it returns is still ours and stays so until the commit (FOR SHARE).
FENCE = """
SELECT r.id FROM slipway.runs r
JOIN unnest(%s::uuid[], %s::int[]) AS mine (id, attempt) ON mine.id = r.id AND mine.attempt = r.attempt
WHERE r.status = 'running' ORDER BY r.id FOR SHARE OF r
"""

# The join on attempt and status: a process that lost the run writes nothing.
# ON CONFLICT: a commit whose answer was lost is written again, by now perhaps with more events.
INSERT_EVENTS = """
INSERT INTO slipway.run_events (run_id, attempt, first_seq, last_seq, events)
SELECT b.run_id, b.attempt, b.first_seq, b.last_seq, b.events::json
FROM unnest(%s::uuid[], %s::int[], %s::int[], %s::int[], %s::text[]) AS b (run_id, attempt, first_seq, last_seq, events)
JOIN slipway.runs r ON r.id = b.run_id AND r.attempt = b.attempt AND r.status = 'running'
ON CONFLICT (run_id, attempt, first_seq) DO UPDATE SET last_seq = EXCLUDED.last_seq, events = EXCLUDED.events
WHERE run_events.last_seq < EXCLUDED.last_seq
"""

INSERT_LEDGER = """
INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model,
                            input_tokens, cached_tokens, output_tokens, cost_usd, estimated)
SELECT r.id, r.attempt, c.call, coalesce(s.external_id, s.id), r.tenant, r.user_id, c.node, c.model,
       c.input_tokens, c.cached_tokens, c.output_tokens, c.cost_usd, c.estimated
FROM jsonb_to_recordset(%s) AS c (run_id uuid, attempt int, call int, node text, model text,
     input_tokens int, cached_tokens int, output_tokens int, cost_usd numeric, estimated boolean)
JOIN slipway.runs r ON r.id = c.run_id AND r.attempt = c.attempt AND r.status = 'running'
JOIN slipway.sessions s ON s.id = r.session_id
ON CONFLICT DO NOTHING
"""

FINISH_RUNS = """
UPDATE slipway.runs r
SET status = 'finished', lease_expires_at = NULL, outcome = e.outcome, answer = e.answer, route = e.route,
    interrupts = e.interrupts, error = e.error, finished_at = now()
FROM jsonb_to_recordset(%s) AS e (id uuid, attempt int, outcome text, answer text, route text, interrupts jsonb, error jsonb)
WHERE r.id = e.id AND r.attempt = e.attempt AND r.status = 'running'
RETURNING r.id
"""

HAND_OVER = """
UPDATE slipway.runs r SET status = 'queued', lease_expires_at = NULL
FROM unnest(%s::uuid[], %s::int[]) AS mine (id, attempt)
WHERE r.id = mine.id AND r.attempt = mine.attempt AND r.status = 'running'
"""

NOTIFY = "SELECT pg_notify(%s, %s)"

# Only when there is work: each notice makes every process ask for it.
NOTIFY_WORK = "SELECT pg_notify(%s, '') WHERE EXISTS (SELECT 1 FROM slipway.runs WHERE status = 'queued')"

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
