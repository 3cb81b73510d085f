"""A session's messages after a run that was stopped: every tool call gets an answer, or no model takes the history again."""

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage, ToolMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES

STOPPED = "This tool call was stopped before it ended. What it had done by then is not known."
"""What the model is told: a call that was cut off may have paid, or not."""


def mend(messages: Sequence[Any]) -> list[BaseMessage]:
    """What to put before the next question, so that each tool call has its answer right behind it.

    Answers alone where the calls stand at the end; else (the session went on already, and no model took it) the whole history
    anew. Empty when nothing is missing. Chat models refuse a call without an answer, and an answer that stands elsewhere.
    """
    whole = list(_answered(messages))
    missing = len(whole) - len(messages)
    if not missing:
        return []
    if whole[: len(messages)] == list(messages):
        return whole[len(messages) :]
    return [RemoveMessage(id=REMOVE_ALL_MESSAGES), *whole]


def _answered(messages: Sequence[Any]) -> Iterator[Any]:
    waiting: dict[str, Any] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            waiting.pop(message.tool_call_id, None)
        else:
            yield from _stopped(waiting)
            waiting = _calls(message)
        yield message
    yield from _stopped(waiting)


def _calls(message: Any) -> dict[str, Any]:
    if not isinstance(message, AIMessage):
        return {}
    return {call["id"]: call for call in (*message.tool_calls, *message.invalid_tool_calls) if call["id"]}


def _stopped(calls: dict[str, Any]) -> Iterator[ToolMessage]:
    for call_id, call in calls.items():
        yield ToolMessage(STOPPED, tool_call_id=call_id, name=call.get("name"), status="error", id=f"stopped-{call_id}")
