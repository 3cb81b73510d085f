"""What runs leave in our tables: the one statement that a commit is, and what it is given."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NotRequired, TypedDict
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from agent_service.caller_limits import StandingRow
from agent_service.outcomes import Outcome
from agent_service.runs import steps
from agent_service.runs.events import TEXT_KINDS, Event, storable
from agent_service.runs.live_run import LiveRun
from agent_service.runs.notices import EVENTS_CHANNEL, WORK_CHANNEL
from agent_service.runs.run_types import Ending, HandOver, Interrupt, ModelCall, RunError, RunInput
from agent_service.runs.steps import columns

ROW_BYTES = 4_096
"""Of JSON in one row of the log, unless one event is larger: what is read at once can be no less."""


def ids(runs: Sequence[LiveRun]) -> list[UUID]:
    return [run.run.id for run in runs]


def keys(runs: Sequence[LiveRun]) -> tuple[list[UUID], list[int]]:
    """Ids and attempts."""
    return ids(runs), [run.run.attempt for run in runs]


def arguments(runs: Sequence[LiveRun]) -> dict[str, object]:
    """What slipway.write_all is given of events, ledger and endings that are not yet written."""
    found: dict[str, object] = {}
    if batches := [batch for run in runs if run.logged_events < len(run.said.events) for batch in _batches(run)]:
        found |= columns(EVENTS, batches)
    if calls := [_ledger_row(run, call) for run in runs for call in run.calls[run.logged_calls :]]:
        found["calls"] = Jsonb(calls)
    if ended := [_ending_row(run, run.ending) for run in runs if isinstance(run.ending, Ending)]:
        found["endings"] = Jsonb(ended)
    if given := [run for run in runs if isinstance(run.ending, HandOver)]:
        found["handed_over"] = ids(given)
    return found


def drop_unwritten(run: LiveRun) -> None:
    """Keeps the numbers of the events and nothing of what they said; and the model calls, until these are refused alone."""
    if not run.steps and run.said.events[run.logged_events :] == _blank(run.said.events[run.logged_events :]):
        del run.calls[run.logged_calls :]
    run.steps = steps.Steps()
    kept = run.said.events[: run.logged_events]
    run.said.events = kept + _blank(run.said.events[len(kept) :])
    run.said.text, run.route = [], None


def _blank(said: Sequence[Event]) -> list[Event]:
    return [event._replace(payload="" if event.kind in TEXT_KINDS else {}) for event in said]


def _batches(run: LiveRun) -> Iterable[tuple[UUID, int, int, int, str]]:
    """Rows of at most ROW_BYTES, or of one event. What is written again is cut at the same places: ON CONFLICT relies on it."""
    new = run.said.events[run.logged_events :]
    packed = pack(new)
    if len(packed) <= ROW_BYTES:
        yield run.run.id, run.run.attempt, new[0].seq, new[-1].seq, packed.decode()
        return
    row: list[Event] = []
    size = 0
    for event in new:
        length = len(pack([event]))
        if row and size + length > ROW_BYTES:
            yield run.run.id, run.run.attempt, row[0].seq, row[-1].seq, pack(row).decode()
            row, size = [], 0
        row.append(event)
        size += length
    yield run.run.id, run.run.attempt, row[0].seq, row[-1].seq, pack(row).decode()


def pack(events: Sequence[Event]) -> bytes:
    """Events as a row of the log has them."""
    return orjson.dumps([(event.kind, event.node, event.payload) for event in events], default=str)


class StartRow(TypedDict):
    """A run that is to begin, as slipway.begin_run takes it in JSON; who begins it says `holder` and `lease` (seconds)."""

    id: str
    session_id: str
    tenant: str
    user_id: str
    question: str
    title: str
    input: RunInput
    listed: bool
    traceparent: str | None
    graph: str
    fresh: str
    """The thread's id, if the session's own is taken."""
    here: bool
    """This process has a place for it; else it waits: at most `max_queued` do, and `of_principal` of one caller."""
    max_queued: int
    of_principal: int
    metadata: Mapping[str, object] | None
    ephemeral: bool
    """Of the thread of a client of LangGraph."""
    per_minute: int | None
    at_a_time: int | None
    """Limits of the caller; None: none, or it is counted elsewhere."""
    holder: NotRequired[str]
    lease: NotRequired[float]


class BegunRow(TypedDict):
    """What it gives back: `fresh` says that the session is new, `created_at` is ISO 8601."""

    thread_id: str
    created_at: str
    fresh: bool
    standing: StandingRow | None


class NewsRow(TypedDict):
    """A run that is to stop, or that somebody watches on another process."""

    id: str
    cancel_requested: bool
    watched: bool


class LedgerRow(TypedDict):
    """A row of slipway.ledger, as slipway.write_all takes it in JSON."""

    run_id: str
    attempt: int
    call: int
    session_id: str
    tenant: str
    user_id: str
    node: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str | None
    """A decimal, which JSON's numbers would round."""
    estimated: bool


class EndingRow(TypedDict):
    """What slipway.runs gets of an ending, likewise."""

    id: str
    outcome: Outcome
    answer: str
    route: str | None
    interrupts: list[Interrupt] | None
    error: RunError | None
    may_cite: bool
    """Its events may have sources; False saves the search."""


def _ledger_row(run: LiveRun, call: ModelCall) -> LedgerRow:
    return {
        "run_id": str(run.run.id),
        "attempt": call.attempt,
        "call": call.call,
        "session_id": run.run.session_id,
        "tenant": run.run.tenant,
        "user_id": run.run.user_id,
        "node": storable(call.node),
        "model": storable(call.model),
        "input_tokens": call.input_tokens,
        "cached_tokens": call.cached_tokens,
        "output_tokens": call.output_tokens,
        "cost_usd": None if call.cost_usd is None else f"{call.cost_usd:f}",
        "estimated": call.estimated,
    }


def _ending_row(run: LiveRun, ending: Ending) -> EndingRow:
    return {
        "id": str(run.run.id),
        "outcome": ending.outcome,
        "answer": run.said.answer,
        "route": storable(run.route),
        "interrupts": storable(ending.interrupts) or None,
        "error": storable(ending.error),
        "may_cite": run.sourced or run.run.attempt > 1,  # an attempt before may have, and this one may have ended at once
    }


EVENTS = ("event_run", "event_attempt", "event_first", "event_last", "event_batch")

PARAMETERS = {
    "starts": "jsonb[]",
    "runs": "uuid[]",
    "tokens": "int[]",
    "lease": "float8",
    "survivors": "uuid[]",
    **dict.fromkeys(steps.BLOBS, "text[]"),
    "blob_value": "bytea[]",
    **dict.fromkeys(steps.CHECKPOINTS, "text[]"),
    "point_body": "jsonb[]",
    "point_metadata": "jsonb[]",
    **dict.fromkeys(steps.WRITES, "text[]"),
    "write_idx": "int[]",
    "write_value": "bytea[]",
    "write_is_mark": "bool[]",
    **dict.fromkeys(EVENTS, "int[]"),
    "event_run": "uuid[]",
    "event_batch": "text[]",
    "calls": "jsonb",
    "endings": "jsonb",
    "handed_over": "uuid[]",
    "idle": "text",
}
"""Of slipway.write_all: name and type. An argument that is None leaves its group out."""

_GIVEN = {name: f"%({name})b::{kind}" for name, kind in PARAMETERS.items()}

# An argument is there before the function begins: it takes its turn before it locks anything.
_ARGUMENTS = {**_GIVEN, "idle": f"slipway.in_turn(%(queues)b::bool, {_GIVEN['idle']})"}

WRITE_ALL = f"""
SELECT begun, news, work FROM slipway.write_all({", ".join(f"{name} => {value}" for name, value in _ARGUMENTS.items())})
"""

HELD = """
SELECT r.id FROM slipway.runs r
JOIN unnest(%b::uuid[], %b::int[]) AS mine (id, attempt) ON r.id = mine.id AND r.attempt = mine.attempt
WHERE r.status = 'running'
"""

NOTIFY_EVENTS = f"SELECT pg_notify('{EVENTS_CHANNEL}', %s)"

NOTIFY_WORK = f"SELECT pg_notify('{WORK_CHANNEL}', '')"
"""Only when there is work: each notice makes every process ask for it."""
