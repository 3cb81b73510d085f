"""What runs leave in our tables: the statements that one commit is made of, and the rows that they take."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from agent_service.runs.live import LiveRun, storable
from agent_service.runs.model import Ending, Event, HandOver, ModelCall
from agent_service.runs.notices import EVENTS_CHANNEL, WORK_CHANNEL
from agent_service.runs.steps import Statement

ROW_BYTES = 4_096
"""Of JSON in one row of the log, unless one event is larger: what is read at once can be no less."""

TEXT_KINDS = frozenset({"text", "message", "end"})
"""Kinds whose payload is a string."""


def ids(runs: Sequence[LiveRun]) -> list[UUID]:
    return [run.run.id for run in runs]


def keys(runs: Sequence[LiveRun]) -> list[Any]:
    """Ids and attempts."""
    return [ids(runs), [run.run.attempt for run in runs]]


def statements(runs: Sequence[LiveRun]) -> list[Statement]:
    """Events, ledger and endings that are not yet written."""
    found: list[Statement] = []
    if batches := [batch for run in runs if run.logged_events < len(run.events) for batch in _batches(run)]:
        found.append((INSERT_EVENTS, [list(column) for column in zip(*batches, strict=True)]))
    if calls := [_ledger_row(run, call) for run in runs for call in run.calls[run.logged_calls :]]:
        found.append((INSERT_LEDGER, [Jsonb(calls)]))
    if ended := [_ending_row(run, run.ending) for run in runs if isinstance(run.ending, Ending)]:
        found.append((FINISH_RUNS, [Jsonb(ended)]))
    if given := [run for run in runs if isinstance(run.ending, HandOver)]:
        found.append((HAND_OVER, [ids(given)]))
    return found


def drop_unwritten(run: LiveRun) -> None:
    """Keeps the numbers of the events, and nothing of what they said."""
    kept = run.events[: run.logged_events]
    run.events = kept + [event._replace(payload="" if event.kind in TEXT_KINDS else {}) for event in run.events[len(kept) :]]
    del run.calls[run.logged_calls :]
    run.text, run.route = [], None


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
        "session_id": run.run.session_id,
        "tenant": run.run.tenant,
        "user_id": run.run.user_id,
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
        "outcome": ending.outcome,
        "answer": run.answer,
        "route": storable(run.route),
        "interrupts": storable(ending.interrupts) or None,
        "error": storable(ending.error),
    }


BEGIN = "SELECT thread_id, fresh, created_at FROM slipway.begin_run(%s)"

FENCE = "SELECT id, cancel_requested, watched FROM slipway.fence_all(%s, %s)"

HELD = """
SELECT r.id FROM slipway.runs r
JOIN unnest(%s::uuid[], %s::int[]) AS mine (id, attempt) ON r.id = mine.id AND r.attempt = mine.attempt
WHERE r.status = 'running'
"""

# All that follow stand behind the fence: their runs are this process's until the commit.

RENEW = "UPDATE slipway.runs SET lease_expires_at = now() + %s * interval '1 second' WHERE id = ANY(%s)"

FORGET_CRASHES = "UPDATE slipway.runs SET crashes = 0 WHERE id = ANY(%s)"

# ON CONFLICT: a commit whose answer was lost is written again, by now perhaps with more events.
INSERT_EVENTS = """
INSERT INTO slipway.run_events (run_id, attempt, first_seq, last_seq, events)
SELECT b.run_id, b.attempt, b.first_seq, b.last_seq, b.events::json
FROM unnest(%s::uuid[], %s::int[], %s::int[], %s::int[], %s::text[]) AS b (run_id, attempt, first_seq, last_seq, events)
ON CONFLICT (run_id, attempt, first_seq) DO UPDATE SET last_seq = EXCLUDED.last_seq, events = EXCLUDED.events
WHERE run_events.last_seq < EXCLUDED.last_seq
"""

INSERT_LEDGER = """
INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model,
                            input_tokens, cached_tokens, output_tokens, cost_usd, estimated)
SELECT c.run_id, c.attempt, c.call, c.session_id, c.tenant, c.user_id, c.node, c.model,
       c.input_tokens, c.cached_tokens, c.output_tokens, c.cost_usd, c.estimated
FROM jsonb_to_recordset(%s) AS c (run_id uuid, attempt int, call int, session_id text, tenant text, user_id text,
     node text, model text, input_tokens int, cached_tokens int, output_tokens int, cost_usd numeric, estimated boolean)
ON CONFLICT DO NOTHING
"""

FINISH_RUNS = """
UPDATE slipway.runs r
SET status = 'finished', lease_expires_at = NULL, outcome = e.outcome, answer = e.answer, route = e.route,
    interrupts = e.interrupts, error = e.error, finished_at = now()
FROM jsonb_to_recordset(%s) AS e (id uuid, outcome text, answer text, route text, interrupts jsonb, error jsonb)
WHERE r.id = e.id
"""

HAND_OVER = "UPDATE slipway.runs SET status = 'queued', lease_expires_at = NULL WHERE id = ANY(%s)"

WAITING = "SELECT EXISTS (SELECT 1 FROM slipway.runs WHERE status = 'queued') AS work"

NOTIFY_EVENTS = f"SELECT pg_notify('{EVENTS_CHANNEL}', %s)"

NOTIFY_WORK = f"SELECT pg_notify('{WORK_CHANNEL}', '')"
"""Only when there is work: each notice makes every process ask for it."""
