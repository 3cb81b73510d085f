"""A later attempt: what the graph goes on from, and which text readers keep."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from agent_service.runs.model import Event, Run

Graph = CompiledStateGraph[Any, Any, Any, Any]


async def saved_messages(graph: Graph, config: RunnableConfig, run: Run) -> set[str] | None:
    """Ids of the messages that the thread's last checkpoint holds; None if it is not this run's.

    LangGraph keeps the metadata of the config that wrote a checkpoint with it: `run_id` is ours.
    """
    state = await graph.aget_state(config, subgraphs=True)
    if (state.metadata or {}).get("run_id") != str(run.id):
        return None
    return {message.id for message in _messages(state) if message.id}


def _messages(state: StateSnapshot) -> Iterator[BaseMessage]:
    """Messages in the state, in that of subgraphs, and of tasks that ended beside one that did not: they do not run again."""
    yield from _in_value(state.values)
    for task in state.tasks:
        yield from _in_value(task.result)
        if isinstance(task.state, StateSnapshot):
            yield from _messages(task.state)


def _in_value(value: Any) -> Iterator[BaseMessage]:
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _in_value(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _in_value(item)


def kept_text(events: Iterable[Event], saved: set[str]) -> list[str]:
    """The logged text of the messages that a checkpoint holds; the rest is produced again.

    Text is a message's when a `message` event with its id follows; a `reset` drops what stands after its own text.
    """
    messages: list[tuple[str | None, str]] = []
    current: list[str] = []
    for event in events:
        match event.kind:
            case "text":
                current.append(event.payload)
            case "message":
                messages.append((event.payload, "".join(current)))
                current = []
            case "reset":
                messages, current = _up_to(messages, event.payload["text"]), []
    return [text for message_id, text in messages if message_id is None or message_id in saved]


def _up_to(messages: list[tuple[str | None, str]], text: str) -> list[tuple[str | None, str]]:
    kept = list(messages)
    while kept and "".join(t for _, t in kept) != text:
        kept.pop()
    return kept or ([(None, text)] if text else [])
