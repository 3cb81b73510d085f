"""A later attempt: what the graph goes on from, and which text readers keep."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.types import RESUME, TASKS
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import All, Send, StateSnapshot

from agent_service.errors import GraphChanged
from agent_service.runs.events import Event
from agent_service.runs.extract import citations, is_refusal
from agent_service.runs.run_types import Run, RunInput

NO_TASK = "00000000-0000-0000-0000-000000000000"
"""Whose writes a Command's are (langgraph 1.2, `_internal/_constants.py`: NULL_TASK_ID)."""

LONGEST_LIST = 500
"""Characters of names in an error."""

NEXT = "branch:to:"
"""With which the name of a channel begins that holds a node's turn (langgraph 1.2, `graph/state.py`: CHANNEL_BRANCH_TO)."""

Graph = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """What a thread's last checkpoint says of a run."""

    started: bool
    """The run has written a checkpoint of the whole graph: it goes on from there."""
    messages: set[str]
    """Ids of all messages in it, subgraphs included."""
    waiting: set[str]
    """Ids of interrupts whose answer no node has been given yet."""
    stopped_before: list[str]
    """Nodes in front of which the run stopped at a breakpoint, which to go on from here would pass."""
    checkpoint_id: str | None
    """Its id."""
    commanded: bool
    """What a Command changes, and where it goes on, is written beside it: LangGraph keeps that with the checkpoint before."""
    route: str | None
    """In the graph's state, which the node that chose it does not write again."""
    sourced: bool
    """A tool has cited a source since the last question."""
    refused: bool
    """Somebody has declined to answer it."""


async def checkpointed(graph: Graph, config: RunnableConfig, run: Run) -> Checkpointed:
    """LangGraph keeps the metadata of the config that wrote a checkpoint with it: `run_id` is ours.

    Raises:
        GraphChanged: the run would go on from what another version of the graph has left, and lose a part of it.
    """
    state = await graph.aget_state(config, subgraphs=True)
    started = (state.metadata or {}).get("run_id") == str(run.id)
    if (started or goes_on(run)) and (lost := await _lost(graph.checkpointer, graph, state)):
        raise GraphChanged(f"begun under another version of the graph; this one has no {', '.join(lost)[:LONGEST_LIST]}")
    messages = list(_messages(state))
    turn = list(takewhile(lambda message: not isinstance(message, HumanMessage), reversed(messages)))
    return Checkpointed(
        started=started,
        messages={message.id for message in messages if message.id},
        waiting=await _waiting(graph, state),
        stopped_before=await _stopped_before(graph, graph, state, run),
        commanded="command" in run.input and await _commanded(graph, state),
        checkpoint_id=state.config["configurable"].get("checkpoint_id"),
        route=_route(state.values),
        sourced=any(isinstance(message, ToolMessage) and citations(message.artifact) for message in turn),
        refused=any(isinstance(message, AIMessage) and is_refusal(message) for message in turn),
    )


def goes_on(run: Run) -> bool:
    """From where another run stopped: a decision, or a command."""
    return not run.input.keys().isdisjoint(("resume", "command"))


async def _lost(saver: object, graph: Pregel[Any, Any, Any, Any], state: StateSnapshot) -> list[str]:
    """Keys with a value, and nodes whose turn it is, that the graph does not know; those of subgraphs too.

    LangGraph leaves them out without a word: a run whose next node is gone would end as if it were done.
    """
    saved = await saver.aget_tuple(state.config) if isinstance(saver, BaseCheckpointSaver) and state.created_at else None
    values: Mapping[str, Any] = saved.checkpoint["channel_values"] if saved else {}
    found = [key.removeprefix(NEXT) for key, value in values.items() if key not in graph.channels and not _is_empty(key, value)]
    found += [sent.node for sent in values.get(TASKS) or () if isinstance(sent, Send) and sent.node not in graph.nodes]
    subgraphs = dict(graph.get_subgraphs())
    for task in state.tasks:
        inner = subgraphs.get(task.name)
        if isinstance(task.state, StateSnapshot) and isinstance(inner, Pregel):
            found += [f"{task.name}.{name}" for name in await _lost(saver, inner, task.state)]
    return sorted({*found})


def _is_empty(key: str, value: object) -> bool:
    """Whether nothing is lost with it. That it is a node's turn is told by the key alone."""
    return not key.startswith(NEXT) and (value is None or (isinstance(value, Sized) and not len(value)))


def _route(values: Any) -> str | None:
    route = values.get("route") if isinstance(values, Mapping) else None
    return route if isinstance(route, str) else None


async def next_nodes(graph: Graph, config: RunnableConfig) -> list[str]:
    """The nodes that come next, of the innermost graph that has begun."""
    return _next(await graph.aget_state(config, subgraphs=True))


def _next(state: StateSnapshot) -> list[str]:
    inner = [node for task in state.tasks if isinstance(task.state, StateSnapshot) for node in _next(task.state)]
    return inner or list(state.next)


async def _stopped_before(root: Graph, graph: Pregel[Any, Any, Any, Any], state: StateSnapshot, run: Run) -> list[str]:
    """A checkpoint of the run itself counts only: what stands at another's is where the decision found it, to go on."""
    if state.next and (state.metadata or {}).get("run_id") == str(run.id):
        before, after = _breakpoints(root, graph, run)
        if _is_named(before, state.next):
            return list(state.next)
        if after and state.parent_config:
            done = (await root.aget_state(state.parent_config)).next
            if _is_named(after, done):
                return list(state.next)
    subgraphs = dict(graph.get_subgraphs())
    for task in state.tasks:
        inner = subgraphs.get(task.name)
        if not (isinstance(task.state, StateSnapshot) and isinstance(inner, Pregel)):
            continue
        if found := await _stopped_before(root, inner, task.state, run):
            return found
    return []


def _breakpoints(root: Graph, graph: Pregel[Any, Any, Any, Any], run: Run) -> tuple[All | Sequence[str], All | Sequence[str]]:
    """Nodes before and after which it stops: the graph's own, or those that the run's caller asked for."""
    asked: RunInput = run.input if graph is root else {}
    return asked.get("interrupt_before") or graph.interrupt_before_nodes, asked.get(
        "interrupt_after"
    ) or graph.interrupt_after_nodes


def _is_named(breakpoints: All | Sequence[str], nodes: Sequence[str]) -> bool:
    return bool(nodes) and ("*" in breakpoints or not set(breakpoints).isdisjoint(nodes))


async def _commanded(graph: Graph, state: StateSnapshot) -> bool:
    saver = graph.checkpointer
    saved = await saver.aget_tuple(state.config) if isinstance(saver, BaseCheckpointSaver) and state.created_at else None
    writes = (saved.pending_writes or []) if saved else []
    return any(task == NO_TASK and channel != RESUME for task, channel, _ in writes)


async def _waiting(graph: Graph, state: StateSnapshot) -> set[str]:
    saver = graph.checkpointer
    saved = await saver.aget_tuple(state.config) if isinstance(saver, BaseCheckpointSaver) else None
    resumed = {task for task, channel, _ in (saved.pending_writes or []) if channel == RESUME} if saved else set()
    found = {interrupt.id for task in state.tasks if task.id not in resumed for interrupt in task.interrupts}
    for task in state.tasks:
        if isinstance(task.state, StateSnapshot):
            found |= await _waiting(graph, task.state)
    return found


def _messages(state: StateSnapshot) -> Iterator[BaseMessage]:
    """Messages in the state, in that of subgraphs, and of tasks that ended beside one that did not: they do not run again."""
    yield from _in_value(state.values)
    for task in state.tasks:
        yield from _in_value(task.result)
        if isinstance(task.state, StateSnapshot):
            yield from _messages(task.state)


def _in_value(value: object) -> Iterator[BaseMessage]:
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _in_value(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _in_value(item)


def kept_text(events: Iterable[Event], saved: set[str]) -> list[tuple[str, str]]:
    """The logged text of the messages that a checkpoint holds; the rest is produced again.

    Text is a message's when a `message` event of its source names it. A `reset` of a source drops its text; one of none
    begins an attempt, with the text of the attempts before.
    """
    pieces: list[tuple[str, str]] = []
    kept = {""}
    for event in events:
        match event.kind:
            case "text":
                pieces.append((event.node, event.payload))
            case "message" if event.payload in saved:
                kept.add(event.node)
            case "reset" if event.node:
                pieces = [piece for piece in pieces if piece[0] != event.node]
            case "reset":
                pieces, kept = [("", event.payload["text"])], {""}
    return [("", text) for source, text in pieces if source in kept and text]
