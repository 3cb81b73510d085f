"""An assistant: a graph with config, context and metadata, which lie under those of its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from agent_service.runs.graph_context import GraphContext
from agent_service.runs.run_types import ConfigInput, RunInput
from agent_service.runs.run_view import assistant_id


@dataclass(frozen=True, slots=True)
class Assistant:
    """A stored one; each graph has one of its own, too, with nothing in it."""

    id: UUID
    graph: str
    name: str = ""
    description: str | None = None
    config: ConfigInput = field(default_factory=ConfigInput)
    context: dict[str, Any] = field(default_factory=dict)
    """None of it beside `configurable` of the config: a client gives the one or the other."""
    metadata: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def ids(self) -> dict[str, str]:
        """What its threads and runs have in their metadata."""
        return {"graph_id": self.graph, "assistant_id": str(self.id)}

    @property
    def is_stored(self) -> bool:
        return self.created_at is not None


def of_graph(name: str) -> Assistant:
    """The graph's own."""
    return Assistant(assistant_id(name), name, name)


def own_context(schema: GraphContext, context: Mapping[str, Any] | None, config: ConfigInput) -> dict[str, Any]:
    """What a client gave as `context`, or as `configurable`, as far as the graph's context knows it."""
    if context:
        return dict(context)
    return {name: value for name, value in config.get("configurable", {}).items() if name in schema.names}


def run_input(assistant: Assistant, asked: RunInput, schema: GraphContext) -> RunInput:
    """What a run of the assistant is given: what was asked for, over what is the assistant's.

    Raises:
        InvalidRequest: together they are no context of the graph.
    """
    context = {**own_context(schema, assistant.context, assistant.config), **(asked.get("context") or {})}
    wire = asked["wire"]
    given: RunInput = {
        **asked,
        "context": schema.of(context or None),
        "wire": {**wire, "metadata": {**assistant.metadata, **wire["metadata"], **assistant.ids}},
    }
    if config := _config(assistant, asked.get("config", {})):
        given["config"] = config
    return given


def _config(assistant: Assistant, own: ConfigInput) -> ConfigInput:
    if not assistant.is_stored:
        return own
    under = assistant.config
    merged: ConfigInput = {**under, **own}
    if configurable := {**under.get("configurable", {}), **own.get("configurable", {})}:
        merged["configurable"] = configurable
    if metadata := {**assistant.metadata, **under.get("metadata", {}), **own.get("metadata", {})}:
        merged["metadata"] = metadata
    if tags := list(dict.fromkeys((*under.get("tags", ()), *own.get("tags", ())))):
        merged["tags"] = tags
    return merged
