"""A later attempt: what the graph goes on from, and which text readers keep."""

from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from agent_service.runs.model import Event, Run

Graph = CompiledStateGraph[Any, Any, Any, Any]


async def saved_messages(graph: Graph, config: RunnableConfig, run: Run) -> set[str] | None:
    """Ids of the messages in the thread's last checkpoint, subgraphs included; None if it is not this run's.

    LangGraph keeps the `run_id` of the config that wrote a checkpoint in its metadata.
    """
    state = await graph.aget_state(config, subgraphs=True)
    if (state.metadata or {}).get("run_id") != str(run.id):
        return None
    return {message.id for message in _messages(state) if message.id}


def _messages(state: StateSnapshot) -> Iterator[BaseMessage]:
    values = state.values if isinstance(state.values, dict) else {}
    for value in values.values():
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, BaseMessage))
    for task in state.tasks:
        if isinstance(task.state, StateSnapshot):
            yield from _messages(task.state)


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
