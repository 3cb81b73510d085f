"""A run's events as clients of LangGraph Platform read them: one event of theirs for one of ours, with its id."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from agent_service.api.json_body import LINE_ENDS
from agent_service.runs.events import Event, EventKind, Position
from agent_service.runs.recorder import MESSAGE_MODES
from agent_service.runs.run_types import Run, RunError
from agent_service.runs.run_view import STEP_LIMIT, error_view
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_runs import ThreadRuns

HEARTBEAT_SECONDS = 5.0
"""Between two signs of life of a silent stream: JavaScript's client takes three times the pause that it sees for a death."""


HEARTBEAT = b": heartbeat\r\n\r\n"


async def never_silent(frames: AsyncIterator[bytes], heartbeat: bytes, idle: float) -> AsyncIterator[bytes]:
    """With a heartbeat for `b""`, which stands for `idle` seconds without news, and for news that the reader did not ask for:
    of these one for each half of that time."""
    told = time.monotonic()
    async for frame in frames:
        if frame or time.monotonic() - told >= idle / 2:
            told = time.monotonic()
            yield frame or heartbeat


Frames = list[tuple[str, bytes]]
"""Name and JSON of events on the wire."""

EXPIRED: RunError = {"code": "events_expired", "message": "the events of this run are no longer kept", "retryable": False}


class Encoder:
    """The events of one run for one reader.

    It has to see them from the first on: what a chunk of text belongs to was said when its message began. Those up to `after`
    are not sent again.
    """

    def __init__(
        self,
        run: Run,
        thread_id: UUID,
        assistant: Mapping[str, str],
        modes: Iterable[str],
        runs: ThreadRuns,
        after: Position,
        namespaces: Iterable[str] | None = None,
    ) -> None:
        """What this reader is told.

        Args:
            assistant: what is said of it in each message's metadata
            modes: of LangGraph, that this reader wants
            namespaces: of graphs that it wants to hear of, each without those inside; "" is the graph itself, None stands for all
        """
        self._run = run
        self._ours = {"thread_id": str(thread_id), "run_id": str(run.id), **assistant}
        self._modes = frozenset(modes)
        self._subgraphs = bool(run.input.get("subgraphs"))
        self._namespaces = None if namespaces is None else frozenset(namespaces)
        self._runs = runs
        self._after = after
        self._kinds: dict[EventKind, Callable[[Event], Frames]] = {
            "run": self._run_begins,
            "text": self._text,
            "partial": self._partial,
            "speak": self._speaks,
            "piece": self._piece,
            "whole": self._whole,
            "reset": self._reset,
            "custom": self._custom,
            "usage": self._usage,
            "error": lambda event: [("error", state_bytes(error_view(event.payload)))],
            "gap": lambda _: [("error", state_bytes(error_view(EXPIRED)))],
            "end": lambda _: [*self._feedback(), *self._end_of_run()],
        }
        self._speaking: dict[str, Message] = {}
        """By source."""
        self._said = False
        """There is text before: a new source begins with a blank line, which is none of its own."""

    async def encode(self, batch: list[Event]) -> AsyncIterator[bytes]:
        """What a page of events is on the wire."""
        newest = {_of_state(event): event.seq for event in batch if _is_state(event)}
        for event in batch:
            named = self._named(event)
            if event.position <= self._after:
                continue
            if event.kind == "speak" and not MESSAGE_MODES.isdisjoint(self._modes):
                # Or the process could die with what it said of a message, and none would know to take that back.
                await self._runs.logged(self._run, event)
            if event.kind == "graph":
                is_newest = newest.get(_of_state(event), event.seq) == event.seq
                named = await self._graph(event, is_newest=is_newest)
            for number, (name, data) in enumerate(named, 1):
                yield self._frame(event, name, data, number, len(named))

    def _frame(self, event: Event, name: str, data: bytes, number: int, count: int) -> bytes:
        """Of several for one event the last has its id: who is cut off between them gets all of them again."""
        for raw, escaped in LINE_ENDS:
            data = data.replace(raw, escaped)
        event_id = f"id: {self._run.id}-{event.attempt}-{event.seq}\r\n" if number == count else ""
        return b"event: %b\r\ndata: %b\r\n%b\r\n" % (name.encode(), data, event_id.encode())

    def _named(self, event: Event) -> Frames:
        """Of every kind but `graph`. Keeps what later events need."""
        shown = self._kinds.get(event.kind)
        return shown(event) if shown else []

    def _run_begins(self, event: Event) -> Frames:
        return [("metadata", state_bytes({"run_id": str(self._run.id), "attempt": event.attempt}))]

    def _custom(self, event: Event) -> Frames:
        place = event.node.split("|") if event.node else []
        wanted = "custom" in self._modes and self._shows(place)
        return [(self._name("custom", place), state_bytes(event.payload))] if wanted else []

    def _usage(self, event: Event) -> Frames:
        return [("error", state_bytes(error_view(STEP_LIMIT)))] if event.payload["outcome"] == "iteration_limit" else []

    def _feedback(self) -> Frames:
        """Where a thumb goes for each key that the client named: an address under the client's own URL, for its own key."""
        keys = self._run.input.get("wire", {}).get("feedback_keys")
        return [("feedback", state_bytes(dict.fromkeys(keys, f"/runs/{self._run.id}/feedback")))] if keys else []

    def _end_of_run(self) -> Frames:
        return [("end", b"null")]

    # Messages

    @property
    def _tuple(self) -> bool:
        return "messages-tuple" in self._modes

    def _speaks(self, event: Event) -> Frames:
        payload = event.payload
        self._speaking[event.node] = Message(payload["id"], payload["ns"], self._meta(payload["meta"]))
        return []

    def _text(self, event: Event) -> Frames:
        source, text = event.node, event.payload
        begins_anew, self._said = self._said, True
        message = self._speaking.get(source)
        if message is None:
            return []  # a node's own message, which `whole` tells of
        if not message.began:
            message.began = True
            if begins_anew and text == "\n\n":
                return []
        if message.ahead:  # its text was sent when it came, as it waited for its turn
            ahead = min(message.ahead, len(text))
            message.ahead -= ahead
            text = text[ahead:]
        return self._chunk(message, text) if text else []

    def _partial(self, event: Event) -> Frames:
        text = event.payload["text"]
        message = self._speaking.get(event.payload["source"])
        if message is None:
            return []
        message.ahead += len(text)
        return self._chunk(message, text)

    def _chunk(self, message: "Message", text: str) -> Frames:
        found = []
        if self._tuple and self._shows(message.place):
            found.append((self._name("messages", message.place), message.chunk(text)))
        if "messages" in self._modes and self._shows(message.place):
            first = [] if message.text else [("messages/metadata", message.metadata())]
            message.text += text
            found += [*first, ("messages/partial", message.so_far())]
        return found

    def _piece(self, event: Event) -> Frames:
        fields = event.payload
        message = self._speaking.get(event.node)
        if message is None or not self._shows(message.place):
            return []
        found = []
        if self._tuple:
            chunk = {**EMPTY_CHUNK, "id": message.id, **fields}
            found.append((self._name("messages", message.place), state_bytes([chunk, message.meta])))
        if "messages" in self._modes:
            message.add(fields)
            if fields.get("chunk_position") == "last":
                found.append(("messages/complete", message.so_far()))
        return found

    def _whole(self, event: Event) -> Frames:
        place, message, meta = event.payload["ns"], event.payload["message"], self._meta(event.payload["meta"])
        found = []
        if self._tuple and self._shows(place):
            found.append((self._name("messages", place), state_bytes([message, meta])))
        if "messages" in self._modes and self._shows(place):
            found += [
                ("messages/metadata", state_bytes({str(message.get("id")): {"metadata": meta}})),
                ("messages/complete", state_bytes([message])),
            ]
        return found

    def _reset(self, event: Event) -> Frames:
        """A call that is repeated begins another message. (What an attempt before has said, `resumed` takes back.)"""
        self._said = bool(event.payload["text"])
        message = self._speaking.pop(event.node, None) if event.node else None
        return self._removed(message) if message else []

    def _removed(self, message: "Message") -> Frames:
        if not (self._tuple and self._shows(message.place)):
            return []
        gone: dict[str, Any] = {
            "type": "remove",
            "id": message.id,
            "content": "",
            "additional_kwargs": {},
            "response_metadata": {},
            "name": None,
        }
        return [(self._name("messages", message.place), state_bytes([gone, message.meta]))]

    def _meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        return {**meta, **self._ours}

    # What the graph streams

    async def _graph(self, event: Event, *, is_newest: bool) -> Frames:
        payload = event.payload
        mode, place, data = payload["mode"], payload["ns"], payload["data"]
        if mode == "resumed":
            return await self._resumed(event, data["messages"])
        if mode not in self._modes or not self._shows(place):
            return []
        if mode == "values":
            values = await self._runs.state_of(self._run, event, newest=is_newest)
            return [] if values is None else [(self._name(mode, place), state_bytes({**values, **data} if data else values))]
        if payload["checkpoint"]:
            values = await self._runs.state_of(self._run, event, newest=is_newest)
            data = _with_values(mode, data, values, str(self._ours["thread_id"]))
        return [(self._name(mode, place), state_bytes(data))]

    async def _resumed(self, event: Event, standing: list[str]) -> Frames:
        gone = [source for source, message in self._speaking.items() if message.id not in standing]
        found = [frame for source in gone for frame in self._removed(self._speaking.pop(source))]
        if "values" in self._modes and event.payload["checkpoint"]:
            values = await self._runs.state_of(self._run, event, newest=True)
            found += [] if values is None else [("values", state_bytes(values))]
        return found

    def _shows(self, place: list[str]) -> bool:
        return (self._subgraphs or not place) and (self._namespaces is None or "|".join(place) in self._namespaces)

    def _name(self, name: str, place: list[str]) -> str:
        return "|".join([name, *place])


class Message:
    """One that a model call is saying."""

    def __init__(self, message_id: str, place: list[str], meta: Mapping[str, Any]) -> None:
        self.id = message_id
        self.place = place
        self.meta = meta
        self.began = False
        self.ahead = 0
        """Characters that were sent before their turn in the answer."""
        self.text = ""
        """All of it, for the mode `messages`."""
        self._fields: dict[str, Any] = {}
        self._before: bytes | None = None
        self._behind = b""

    def chunk(self, text: str) -> bytes:
        """Made once but for the text: this is sent for each token."""
        if self._before is None:
            rest = {key: value for key, value in EMPTY_CHUNK.items() if key != "content"}
            self._before = b'[{"content":'
            self._behind = b"," + state_bytes([{**rest, "id": self.id}, self.meta]).removeprefix(b"[{")
        return self._before + state_bytes(text) + self._behind

    def add(self, fields: Mapping[str, Any]) -> None:
        """Fields of a chunk, for the message so far."""
        for key, value in fields.items():
            if key == "tool_call_chunks":
                calls = self._fields.setdefault("tool_calls", [])
                calls += [{"name": c["name"], "args": _arguments(c["args"]), "id": c["id"], "type": "tool_call"} for c in value]
            elif key in {"usage_metadata", "response_metadata"} and value:
                self._fields[key] = value

    def so_far(self) -> bytes:
        return state_bytes([{**EMPTY_MESSAGE, "id": self.id, "content": self.text, **self._fields}])

    def metadata(self) -> bytes:
        return state_bytes({self.id: {"metadata": self.meta}})


EMPTY_CHUNK: Mapping[str, Any] = {
    "content": "", "additional_kwargs": {}, "response_metadata": {}, "type": "AIMessageChunk", "name": None, "id": None,
    "tool_calls": [], "invalid_tool_calls": [], "usage_metadata": None, "tool_call_chunks": [], "chunk_position": None,
}  # fmt: skip

EMPTY_MESSAGE: Mapping[str, Any] = {
    "content": "", "additional_kwargs": {}, "response_metadata": {}, "type": "ai", "name": None, "id": None,
    "tool_calls": [], "invalid_tool_calls": [], "usage_metadata": None,
}  # fmt: skip


def _is_state(event: Event) -> bool:
    return event.kind == "graph" and event.payload["checkpoint"] is not None


def _of_state(event: Event) -> tuple[str, ...]:
    """Whose states replace each other for a reader who comes late."""
    return (event.payload["mode"], *event.payload["ns"])


def _arguments(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return {}


def _with_values(mode: str, data: dict[str, Any], values: Any, thread_id: str) -> dict[str, Any]:
    """A checkpoint with the state that stands in it; the thread by the name that its owner knows."""
    holder = data["payload"] if mode == "debug" else data
    configs = {key: holder[key] for key in ("config", "parent_config") if "configurable" in (holder.get(key) or {})}
    named = {key: _renamed(config, thread_id) for key, config in configs.items()}
    whole = {**holder, **named, "values": values}
    return {**data, "payload": whole} if mode == "debug" else whole


def _renamed(config: Mapping[str, Any], thread_id: str) -> dict[str, Any]:
    return {**config, "configurable": {**config["configurable"], "thread_id": thread_id}}
