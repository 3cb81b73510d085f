"""What readers of a run are told: kinds of events, and the one place that makes each. Every wire is a view of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID

import orjson

from agent_service.errors import InvalidRequest
from agent_service.outcomes import Outcome
from agent_service.runs.run_types import Interrupt, Run, RunError, RunUsage

EventKind = Literal[
    "text",
    "message",
    "call",
    "reasoning",
    "partial",
    "source",
    "run",
    "node",
    "tool_start",
    "tool_end",
    "custom",
    "interrupt",
    "usage",
    "budget",
    "reset",
    "gap",
    "error",
    "end",
    # For clients of LangGraph, of runs whose caller asked for them (runs/recorder.py):
    "graph",
    "speak",
    "piece",
    "whole",
]

TEXT_KINDS: frozenset[EventKind] = frozenset({"text", "message", "end"})
"""Kinds whose payload is a string; that of every other is a JSON object."""

HIDDEN_KINDS: frozenset[EventKind] = frozenset({"message", "call", "graph", "speak", "piece", "whole"})
"""Kept for recoveries, and for clients of LangGraph: not shown on our own wire."""

MAX_CUSTOM_BYTES = 65_536
"""Of one custom event: progress and partial results, not files; each is kept in the log and sent to every reader."""

MAX_JSON_INTEGER = 2**63 - 1
"""orjson refuses larger ones, and readers in JavaScript would round them."""

MAX_JSON_DEPTH = 100
"""orjson stops at 254 levels; nothing that a person reads is that deep."""


class Position(NamedTuple):
    """A place in a run's stream; tuples compare in the order in which events happened."""

    attempt: int
    seq: int


START = Position(0, 0)
"""Before the first event."""


class Event(NamedTuple):
    """One item of a run's stream in its neutral form."""

    attempt: int
    seq: int
    kind: EventKind
    node: str
    payload: Any

    @property
    def position(self) -> Position:
        """Its place among all events of the run."""
        return Position(self.attempt, self.seq)


_EVENT_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class EventId:
    """`<run_id>-<attempt>-<seq>` of the wire."""

    run_id: UUID
    position: Position

    @classmethod
    def parse(cls, text: str, *, field: str) -> Self:
        """Raises InvalidRequest, which names `field`."""
        match = _EVENT_ID.fullmatch(text)
        if not match:
            raise InvalidRequest(f"{field}: expected the id of an event, <run_id>-<attempt>-<seq>", field=field)
        return cls(UUID(match[1]), Position(int(match[2]), int(match[3])))


class News(NamedTuple):
    """An event that has no place in a stream yet. `node`: who it is of; of text the source, as Speakers have it."""

    kind: EventKind
    payload: Any
    node: str = ""


# The run


def run(of: Run) -> News:
    """The first of each attempt."""
    return begun(of.id, of.session_id, of.attempt, of.question)


def begun(run_id: UUID, session_id: str, attempt: int, question: str) -> News:
    """`run`, for who has no whole Run."""
    return _object("run", {"run_id": str(run_id), "session_id": session_id, "attempt": attempt, "question": question})


def interrupt(interrupts: Sequence[Interrupt]) -> News:
    """What the run stopped for: `id` and `value` of each."""
    return _object("interrupt", {"interrupts": interrupts})


def error(problem: RunError) -> News:
    """`code`, `message`, `retryable`."""
    return _object("error", problem)


def usage(outcome: Outcome | None, used: RunUsage) -> News:
    """`used`: model calls, tokens, and the cost in USD, None when a model has no price."""
    return _object("usage", {"outcome": outcome, **used})


def budget(state: Mapping[str, Any]) -> News:
    """Most of it is gone: `scope` (user, tenant), `period`, tokens and USD that are spent, and their limits or None."""
    return _object("budget", state)


def end() -> News:
    """The last event of a run. Its outcome is stored before a reader sees it."""
    return News("end", "")


def gap(reason: str) -> News:
    """Events are missing here."""
    return _object("gap", {"reason": reason})


# Its answer


def text(piece: str, source: str) -> News:
    """`piece` is storable, and parted where a wire needs it: EventBuffer.publish_text does both."""
    return News("text", piece, source)


def message(message_id: str, source: str) -> News:
    """The source's text is that message."""
    return News("message", storable(message_id), source)


def model_call(source: str, model: str, prompt_tokens: int) -> News:
    """A model call begins, whose text has that source."""
    return _object("call", {"model": model, "prompt_tokens": prompt_tokens}, source)


def unseen(source: str, tokens: int) -> News:
    """A model call has produced so many more that no other event tells of: hidden text, a tool's arguments."""
    return _object("call", {"unseen_tokens": tokens}, source)


def reset(answer: str, source: str = "") -> News:
    """The answer so far is this."""
    return _object("reset", {"text": answer}, source)


def source(speaks: str) -> News:
    """The text that follows is that source's, of which `partial` events were seen."""
    return _object("source", {"source": speaks}, speaks)


def partial(piece: str, source: str) -> News:
    """Text of a source whose turn has not come."""
    return _object("partial", {"source": source, "text": piece}, source)


def reasoning(thought: str, source: str) -> News:
    """A piece of what a reasoning model thinks; no part of the answer."""
    return _object("reasoning", {"source": source, "text": thought}, source)


# What the graph does


def node_start(name: str, path: Sequence[str]) -> News:
    """`path`: names of the graphs around the node, outermost first."""
    return _object("node", {"node": name, "state": "start", "path": path}, name)


def node_end(name: str, seconds: float) -> News:
    """`seconds` are kept to a millisecond."""
    return _object("node", {"node": name, "state": "end", "seconds": round(seconds, 3)}, name)


def tool_start(call_id: str, tool: str, args: object, node: str) -> News:
    """`args` as the graph gave them, plain JSON."""
    return _object("tool_start", {"id": call_id, "tool": tool, "args": args, "node": node}, node)


def tool_end(
    call_id: str, tool: str, *, status: str, output: str, seconds: float, sources: Sequence[Mapping[str, str]], node: str
) -> News:
    """`status`: ok or error. `sources`: citations of what the tool has read."""
    cited = {"sources": sources} if sources else {}
    payload = {"id": call_id, "tool": tool, "status": status, "output": output, "seconds": round(seconds, 3), **cited}
    return _object("tool_end", payload, node)


def custom(value: object, place: Sequence[str]) -> News:
    """What a graph says to its readers (`get_stream_writer`); of what is too large, how large it is."""
    plain = storable(value)
    size = len(orjson.dumps(plain))
    return News("custom", plain if size <= MAX_CUSTOM_BYTES else {"too_large_bytes": size}, "|".join(place))


# What LangGraph streams


def graph(
    mode: str, place: Sequence[str], data: object, checkpoint_id: str | None = None, *, saved: Mapping[str, object] | None = None
) -> News:
    """An item of a stream mode, `data` as JSON that can be stored.

    `checkpoint_id`: whose values belong into it. `saved`: of that checkpoint, which is new: `id`, `parent_id`, `step`, `source`.
    """
    payload = {"mode": mode, "ns": list(place), "data": data, "checkpoint": checkpoint_id}
    return News("graph", payload | ({"saved": saved} if saved else {}))


def speak(message_id: str, place: Sequence[str], meta: Mapping[str, object], source: str) -> News:
    """The source begins the message of that id."""
    return _object("speak", {"id": message_id, "ns": list(place), "meta": meta}, source)


def piece(fields: Mapping[str, object], source: str) -> News:
    """Fields of a chunk of the source's message that are no text; storable."""
    return News("piece", fields, source)


def whole(message: object, place: Sequence[str], meta: Mapping[str, object]) -> News:
    """A message that came in one piece; storable."""
    return News("whole", {"message": message, "ns": list(place), "meta": storable(meta)})


def _object(kind: EventKind, payload: Mapping[str, object], node: str = "") -> News:
    return News(kind, storable(payload), node)


def storable(value: object, depth: int = MAX_JSON_DEPTH) -> Any:
    """The value as JSON that PostgreSQL and every reader take: no NUL, no half surrogate pair, no integer over 64 bits,
    no NaN, no deep nesting; other things as their text."""
    if isinstance(value, str):
        plain = value.isascii() and "\0" not in value
        return value if plain else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping) and depth:
        return {str(storable(str(key))): storable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [storable(item, depth - 1) for item in value]
    return value if value is None or _is_json_number(value) else storable(str(value))


def _is_json_number(value: object) -> bool:
    """A bool, too: for Python it is an int."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) <= MAX_JSON_INTEGER
