"""What a run's callbacks remember of a model call, a node or a tool that has begun and not ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent_service.runs.billing import CallBegun


@dataclass(slots=True)
class OpenModelCall(CallBegun):
    visible: bool
    source: str
    """Where its text comes from, as LiveRun.publish_text has it."""
    place: str
    """The node's task and those around it: LangGraph's checkpoint namespace."""
    spoke: bool = False
    meta: Mapping[str, Any] | None = None
    """Of a call that is recorded."""
    begun: bool = False
    """The recorder has told of it."""
    heard: bool = False
    """Its text came by `on_model_text`: what its chunks hold of it is a repetition."""
    thinks_aloud: bool = False
    """Likewise what it thinks, by `on_model_thought`."""
    thought: bool = False
    """Something of what it thinks was told."""
    said: list[str] = field(default_factory=list)
    """What it produced so far, shown or not: the bill of a call that never ends."""
    sent: bool = False
    """No budget keeps it from the endpoint."""
    arguments: int = 0
    """Characters of calls of tools, of which only the length is known."""
    unseen: int = 0
    """Characters of it that no event tells of yet."""


@dataclass(slots=True)
class OpenSpan:
    name: str
    started: float
    node: str = ""
    call_id: str = ""
    place: str = ""
    meta: Mapping[str, Any] | None = None
    """Of a node that is recorded."""
