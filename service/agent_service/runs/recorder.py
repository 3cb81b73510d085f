"""What LangGraph streams in its own modes, as events: only of runs whose caller asked for them.

A turn that asks for nothing has no recorder, and costs what it did. Of one that asks for `messages`, a model call adds an
event at its first token and one at its end: its text is the `text` that every run has. States are not copied into the log:
an event names the checkpoint that holds one, and the newest stay in memory for who reads along.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.utils.utils import LC_ID_PREFIX

from agent_service.runs import events
from agent_service.runs.events import News, storable
from agent_service.runs.live_run import LiveRun
from agent_service.runs.state_json import INTERRUPT_KEY, interrupts_json, state_bytes, state_json

MESSAGE_MODES = frozenset({"messages", "messages-tuple"})
"""Modes that tell of messages as models say them."""

MAX_ITEM_BYTES = 1_000_000
"""Of what one task was given or has returned, in the log; the whole of it stands in the checkpoints."""

MAX_RUN_BYTES = 16_000_000
"""Of all items of one run: they stay in memory until it ends, and in the log for a day."""

MAX_META_BYTES = 4_096
"""Of the metadata of a message: with each chunk of it, every client gets them."""


class GraphRecorder:
    """Turns items of `astream` into events. `record`: the modes that were asked for."""

    def __init__(self, live: LiveRun, record: Iterable[str], *, subgraphs: bool) -> None:
        self._live = live
        self._record = frozenset(record)
        self._subgraphs = subgraphs
        self._held: dict[tuple[str, ...], Any] = {}
        """States whose checkpoint's id has yet to come."""
        self._last: dict[tuple[str, ...], str] = {}
        self._saved: dict[tuple[str, ...], dict[str, Any]] = {}
        """Checkpoints of which no state was told yet."""
        self._left = MAX_RUN_BYTES

    @property
    def modes(self) -> list[str]:
        """What `astream` is asked for besides `updates` and `custom`."""
        wanted = self._record & {"values", "tasks", "debug", "checkpoints"}
        return sorted(wanted | ({"checkpoints"} if wanted & {"values", "debug"} else set()))

    def take(self, place: tuple[str, ...], mode: str, item: Any) -> None:
        """One item of the stream; `place`: the namespace of its graph."""
        if place and not self._subgraphs:
            return
        match mode:
            case "values":
                self._release(place)
                self._held[place] = item
            case "checkpoints":
                self._last[place] = item["config"]["configurable"]["checkpoint_id"]
                self._saved[place] = _saved(item)
                self._release(place)
                if mode in self._record:
                    self._publish_state(mode, place, item, item, item["values"])
            case "debug" if item["type"] == "checkpoint":
                self._publish_state(mode, place, item, item["payload"], item["payload"]["values"])
            case _ if mode in self._record:
                self._live.said.publish(events.graph(mode, place, self._bounded(item)))

    def resumed(self, checkpoint_id: str | None, messages: Iterable[str]) -> None:
        """Another attempt goes on from that checkpoint, in which these messages stand."""
        if self._record:
            self._live.said.publish(events.graph("resumed", (), {"messages": sorted(messages)}, checkpoint_id))

    def end(self) -> None:
        """No more is to come: states that have no checkpoint of their own are those of the last one, and what it waits for."""
        for place in list(self._held):
            self._release(place)

    def _release(self, place: tuple[str, ...]) -> None:
        if (state := self._held.pop(place, None)) is None:
            return
        data = {}
        if isinstance(state, Mapping) and INTERRUPT_KEY in state:
            data = {INTERRUPT_KEY: interrupts_json(state[INTERRUPT_KEY])}
            state = {key: value for key, value in state.items() if key != INTERRUPT_KEY}
        self._live.keep_state(state)
        saved = self._saved.pop(place, None)
        self._live.said.publish(events.graph("values", place, data, self._last.get(place), saved=saved))

    def _publish_state(self, mode: str, place: tuple[str, ...], item: Any, holder: Any, state: Any) -> None:
        bare = {**holder, "values": None}
        self._live.keep_state(state)
        data = bare if holder is item else {**item, "payload": bare}
        at = holder["config"]["configurable"]["checkpoint_id"]
        self._live.said.publish(events.graph(mode, place, self._bounded(_without_internals(data)), at))

    def _bounded(self, item: Any) -> Any:
        """The item as JSON; of what is too large, or more than a run may record, how large it is."""
        whole = state_bytes(item)
        if len(whole) <= min(MAX_ITEM_BYTES, self._left):
            self._left -= len(whole)
            return storable(orjson.loads(whole))
        size = {"too_large_bytes": len(whole)}
        return dict.fromkeys(map(str, item), size) if isinstance(item, Mapping) else size


def _saved(item: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without what is in it: what a client needs to go back to before it."""
    parent = ((item.get("parent_config") or {}).get("configurable") or {}).get("checkpoint_id")
    found = {
        "id": item["config"]["configurable"]["checkpoint_id"],
        "step": item["metadata"]["step"],
        "source": item["metadata"]["source"],
    }
    return found | ({"parent_id": parent} if parent else {})


def _without_internals(value: Any) -> Any:
    """Configs of LangGraph's hold objects of ours (a run's LiveRun, its owner)."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: {"configurable": _named(item.get("configurable") or {})} if key in {"config", "parent_config"} and item else
        _without_internals(item) if key == "payload" else item
        for key, item in value.items()
    }  # fmt: skip


def _named(configurable: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: configurable[key] for key in ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map") if key in configurable
    }


class MessageRecorder:
    """Messages as LangGraph's mode `messages` tells of them. `publish` may be called from any thread."""

    def __init__(self, publish: Callable[[News], None], *, subgraphs: bool) -> None:
        self._publish = publish
        self._subgraphs = subgraphs
        self._shown: set[str] = set()

    def wants(self, metadata: Mapping[str, Any]) -> bool:
        """Whether messages of this node are told: those of subgraphs only if they were asked for."""
        return self._subgraphs or not namespace(metadata)

    def begin(self, source: str, run_id: UUID, message_id: str | None, metadata: Mapping[str, Any]) -> None:
        """A model call says its first; `message_id`: of its chunk, if it has one."""
        given = message_id or f"{LC_ID_PREFIX}-{run_id}"
        self._shown.add(given)
        self._publish(events.speak(given, namespace(metadata), _meta(metadata), source))

    def piece(self, source: str, chunk: BaseMessage) -> None:
        """What a chunk holds besides its text; nothing when it holds nothing else."""
        blocks = [block for block in chunk.content if not _is_text(block)] if isinstance(chunk.content, list) else []
        calls = list(chunk.tool_call_chunks) if isinstance(chunk, AIMessageChunk) else []
        beside = {key: value for key, value in chunk.additional_kwargs.items() if key not in {"tool_calls", "parsed"}}
        if blocks or calls or beside:
            found = {"content": blocks or "", "tool_call_chunks": calls, "additional_kwargs": beside}
            self._publish(events.piece(state_json(found), source))

    def end(self, source: str, message: AIMessage) -> None:
        """The call has said its last."""
        if message.id:
            self._shown.add(message.id)
        last = {
            "usage_metadata": message.usage_metadata,
            "response_metadata": message.response_metadata,
            "chunk_position": "last",
        }
        self._publish(events.piece(state_json(last), source))

    def known(self, messages: Iterable[BaseMessage]) -> None:
        """Messages that a node was given: they are not news when it returns them."""
        self._shown.update(message.id for message in messages if message.id)

    def whole(self, messages: Iterable[BaseMessage], metadata: Mapping[str, Any]) -> None:
        """Messages that came in one piece."""
        for message in messages:
            if message.id and message.id not in self._shown:
                self._shown.add(message.id)
                self._publish(events.whole(state_json(message), namespace(metadata), _meta(metadata)))


def namespace(metadata: Mapping[str, Any]) -> list[str]:
    """Of the graph whose node it is: none for the graph itself."""
    return str(metadata.get("langgraph_checkpoint_ns") or "").split("|")[:-1]


def _is_text(block: object) -> bool:
    return isinstance(block, str) or (isinstance(block, Mapping) and block.get("type") == "text")


def _meta(metadata: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in metadata.items() if not key.startswith("__") and _is_plain(value)}
    if len(state_bytes(plain)) <= MAX_META_BYTES:
        return plain
    return {key: value for key, value in plain.items() if key.startswith(("langgraph_", "ls_"))}


def _is_plain(value: object) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(isinstance(item, str | int | float) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
