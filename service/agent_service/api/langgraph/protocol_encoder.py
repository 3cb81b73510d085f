"""A run's events in version 2 of LangGraph's protocol: one stream for a thread, by channels, messages in blocks."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from agent_service.api.json_body import LINE_ENDS
from agent_service.api.langgraph.encoder import EXPIRED, Encoder, Frames, Message
from agent_service.api.langgraph.views import waiting
from agent_service.runs.events import START, Event
from agent_service.runs.run_types import Run, RunError
from agent_service.runs.run_view import STEP_LIMIT
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_runs import ThreadRuns

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

MINUTE = 1 << 27
"""Numbers for the events of runs that began in one minute since EPOCH: JavaScript's 53 bits have enough of them until 2153."""

FRAMES = 64
"""Numbers for each event of ours: most are one event of theirs."""

MODES: Mapping[str, str] = {
    "messages": "messages-tuple",
    "values": "values",
    "updates": "updates",
    "custom": "custom",
    "tasks": "tasks",
}
"""Channels that are stream modes of version 1."""

ENDS: Mapping[str, str] = {
    "completed": "completed",
    "interrupted": "interrupted",
    "cancelled": "interrupted",
    "budget": "interrupted",
}
"""Of a run that did not fail, by its outcome."""


def began(seq: int) -> datetime:
    """The minute in which the run began that has an event of that number."""
    return EPOCH + timedelta(minutes=seq // MINUTE)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one reader wants to hear: channels, and the graphs below these namespaces down to a depth."""

    channels: frozenset[str]
    namespaces: Sequence[Sequence[str]] = ((),)
    depth: int | None = None

    def hears(self, place: Sequence[str]) -> bool:
        return any(
            list(place[: len(prefix)]) == list(prefix) and (self.depth is None or len(place) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )


@dataclass(slots=True)
class _Blocks:
    """The blocks of a message so far, by their index."""

    finished: int = 0
    text: str | None = None
    calls: dict[object, dict[str, Any]] = field(default_factory=dict)
    """Tool calls that are still being said, by the model's index."""


class ProtocolEncoder(Encoder):
    """The events of one run of a thread.

    last: number of the event before; each has a higher one. since: events up to that number are known. They are left out where
    a number tells for sure which they are; a client knows the others by their ids.
    """

    def __init__(
        self,
        run: Run,
        thread_id: UUID,
        assistant: Mapping[str, str],
        wanted: Subscription,
        runs: ThreadRuns,
        *,
        last: int,
        since: int,
    ) -> None:
        modes = (mode for channel, mode in MODES.items() if channel in wanted.channels)
        super().__init__(run, thread_id, assistant, modes, runs, START)
        self._kinds |= {
            "interrupt": self._interrupt,
            "error": self._error,
            "gap": self._gap,
            "end": self._end,
            "tool_start": self._tool_start,
            "tool_end": self._tool_end,
        }
        self._wanted = wanted
        self._base = (run.created_at - EPOCH) // timedelta(minutes=1) * MINUTE
        self.last = last
        self._since = since if last < self._base else 0
        self._blocks: dict[str, _Blocks] = {}
        self._blind: set[tuple[str, ...]] = set()
        """Graphs of which a state was left out."""
        self._outcome = ""
        self._failure: RunError | None = None

    def _frame(self, event: Event, name: str, data: bytes, number: int, count: int) -> bytes:  # noqa: ARG002  # each has an id here
        if not data:
            return b""
        method, *place = name.split("|")
        own = self._base + event.seq * FRAMES + number
        self.last = max(self.last + 1, own)
        if event.attempt == 1 and self.last == own <= self._since:
            return b""
        for raw, escaped in LINE_ENDS:
            data = data.replace(raw, escaped)
        head = {
            "type": "event",
            "event_id": f"{self._run.id}-{event.attempt}-{event.seq}.{number}",
            "seq": self.last,
            "method": method,
        }
        params = state_bytes({"namespace": place, "timestamp": int(time.time() * 1000)})
        body = b'%b,"params":%b,"data":%b}}' % (state_bytes(head)[:-1], params[:-1], data)
        return b"event: %b\ndata: %b\nid: %d\n\n" % (method.encode(), body, self.last)

    def _shows(self, place: list[str]) -> bool:
        return self._wanted.hears(place)

    def _told(self, channel: str, data: object, method: str = "") -> Frames:
        """Of the thread as a whole."""
        return [(method or channel, state_bytes(data))] if channel in self._wanted.channels and self._shows([]) else []

    # The run

    def _lifecycle(self, event: str, **more: str) -> Frames:
        return self._told("lifecycle", {"event": event, "graph_name": self._run.graph, **more})

    def _run_begins(self, event: Event) -> Frames:  # noqa: ARG002  # Encoder's form
        return self._lifecycle("running")

    def _interrupt(self, event: Event) -> Frames:
        asked = [
            {"interrupt_id": each["id"], "payload": each["value"], "value": each["value"]}
            for each in waiting(event.payload["interrupts"])
        ]
        return [frame for each in asked for frame in self._told("input", each, "input.requested")]

    def _usage(self, event: Event) -> Frames:
        self._outcome = event.payload["outcome"] or ""
        if self._outcome == "iteration_limit":
            self._failure = STEP_LIMIT
        return []

    def _error(self, event: Event) -> Frames:
        self._failure = event.payload
        return []

    def _gap(self, event: Event) -> Frames:  # noqa: ARG002  # Encoder's form
        self._failure = EXPIRED
        return []

    def _end(self, event: Event) -> Frames:  # noqa: ARG002  # Encoder's form
        if self._failure:
            return self._lifecycle("failed", error=self._failure["message"])
        return self._lifecycle(ENDS.get(self._outcome, "failed"))

    # What the graph says

    def _custom(self, event: Event) -> Frames:
        return [(name, state_bytes({"payload": json.loads(data)})) for name, data in super()._custom(event)]

    def _tool_start(self, event: Event) -> Frames:
        call = event.payload
        started = {"event": "tool-started", "tool_call_id": call["id"], "tool_name": call["tool"], "input": call["args"]}
        return self._told("tools", started)

    def _tool_end(self, event: Event) -> Frames:
        call = event.payload
        if call["status"] == "ok":
            return self._told("tools", {"event": "tool-finished", "tool_call_id": call["id"], "output": call["output"]})
        return self._told("tools", {"event": "tool-error", "tool_call_id": call["id"], "message": call["output"]})

    async def _graph(self, event: Event, *, is_newest: bool) -> Frames:
        payload = event.payload
        if payload["mode"] == "values":  # what is asked is told by the channel `input`
            payload = {**payload, "data": {}}
        found = await super()._graph(event._replace(payload=payload), is_newest=is_newest)
        if payload["mode"] == "values":
            return [self._checkpoint(payload, told=bool(found)), *found]
        return found if payload["mode"] != "updates" else [update for frame in found for update in _by_node(frame)]

    def _checkpoint(self, payload: Mapping[str, Any], *, told: bool) -> tuple[str, bytes]:
        """The one that a state stands in, before that state, as clients pair them to know where a message can be asked anew.

        Once a state was left out for a reader who came late, they would take a later checkpoint for that of its messages. It is
        a frame without data where it is not told: the state behind it has the same id for all.
        """
        place, saved = payload["ns"], payload.get("saved")
        if "values" in self._modes and self._shows(place) and not told:
            self._blind.add(tuple(place))
        tells = saved and "checkpoints" in self._wanted.channels and self._shows(place) and tuple(place) not in self._blind
        return self._name("checkpoints", place), state_bytes(saved) if tells else b""

    # Messages

    def _said_of(self, message: Message, *data: Mapping[str, Any]) -> Frames:
        name = self._name("messages", message.place)
        return [(name, state_bytes(each)) for each in data]

    def _begun(self, message: Message) -> tuple[_Blocks, Frames]:
        if blocks := self._blocks.get(message.id):
            return blocks, []
        blocks = self._blocks[message.id] = _Blocks()
        return blocks, self._said_of(message, {"event": "message-start", "role": "ai", "id": message.id})

    def _chunk(self, message: Message, text: str) -> Frames:
        if not (self._tuple and self._shows(message.place)):
            return []
        blocks, found = self._begun(message)
        if blocks.text is None:
            found += self._said_of(message, _start(blocks.finished, {"type": "text", "text": ""}))
        blocks.text = (blocks.text or "") + text
        return found + self._said_of(message, _delta(blocks.finished, {"type": "text-delta", "text": text}))

    def _piece(self, event: Event) -> Frames:
        message = self._speaking.get(event.node)
        if message is None or not (self._tuple and self._shows(message.place)):
            return []
        fields = event.payload
        blocks, found = self._begun(message)
        for piece in fields.get("tool_call_chunks") or ():
            found += self._call(message, blocks, piece)
        if fields.get("chunk_position") == "last":
            found += self._end_of_text(message, blocks)
            found += self._said_of(message, *(_finished(call) for call in blocks.calls.values()))
            end = {"event": "message-finish", "metadata": fields.get("response_metadata") or {}}
            found += self._said_of(message, end | ({"usage": used} if (used := fields.get("usage_metadata")) else {}))
            del self._blocks[message.id]
        return found

    def _call(self, message: Message, blocks: _Blocks, piece: Mapping[str, Any]) -> Frames:
        found: Frames = []
        call = blocks.calls.get(piece["index"])
        if call is None:
            found = self._end_of_text(message, blocks)
            call = {"index": blocks.finished, "id": piece["id"], "name": piece["name"], "args": ""}
            blocks.calls[piece["index"]] = call
            blocks.finished += 1
            empty = {"type": "tool_call_chunk", "id": call["id"], "name": call["name"], "args": "", "index": call["index"]}
            found += self._said_of(message, _start(call["index"], empty))
        if piece["args"]:
            call["args"] += piece["args"]
            found += self._said_of(message, _delta(call["index"], {"type": "tool-call-delta", "args": piece["args"]}))
        return found

    def _end_of_text(self, message: Message, blocks: _Blocks) -> Frames:
        if blocks.text is None:
            return []
        content = {"type": "text", "text": blocks.text}
        end = {"event": "content-block-finish", "index": blocks.finished, "content": content}
        blocks.text, blocks.finished = None, blocks.finished + 1
        return self._said_of(message, end)

    def _whole(self, event: Event) -> Frames:
        whole = event.payload["message"]
        if whole.get("type") != "ai":
            return []
        message = Message(str(whole.get("id")), event.payload["ns"], {})
        text = whole["content"] if isinstance(whole["content"], str) else ""
        found = self._chunk(message, text) if text else []
        if not (blocks := self._blocks.pop(message.id, None)):
            return found
        return [*found, *self._end_of_text(message, blocks), *self._said_of(message, {"event": "message-finish", "metadata": {}})]

    def _removed(self, message: Message) -> Frames:
        if self._blocks.pop(message.id, None) is None:
            return []
        return self._said_of(message, {"event": "error", "message": "the message begins anew"})


def _start(index: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"event": "content-block-start", "index": index, "content": content}


def _delta(index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
    return {"event": "content-block-delta", "index": index, "delta": delta}


def _finished(call: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = {"type": "tool_call", "id": call["id"], "name": call["name"], "args": json.loads(call["args"] or "{}")}
    except ValueError:
        error = "the arguments are no JSON"
        content = {"type": "invalid_tool_call", "id": call["id"], "name": call["name"], "args": call["args"], "error": error}
    return {"event": "content-block-finish", "index": call["index"], "content": content}


def _by_node(frame: tuple[str, bytes]) -> Iterable[tuple[str, bytes]]:
    name, data = frame
    for node, values in json.loads(data).items():
        if node != "__interrupt__":
            yield name, state_bytes({"node": node, "values": values if isinstance(values, dict) else {"value": values}})
