"""Bodies of the assistants of the LangGraph wire."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent_service.api.field_types import Body, JsonObject, Text
from agent_service.api.langgraph.wire_schemas import Id, Limit, Metadata, Name, Offset, RunConfig


class AssistantChange(Body):
    """What a new version has; what is left out it takes from the one before."""

    graph_id: Name | None = None
    config: RunConfig | None = None
    context: JsonObject | None = None
    metadata: Metadata | None = Field(None, description="Put into that of the version before.")
    name: Name | None = None
    description: Annotated[Text, StringConstraints(max_length=2_000)] | None = None


class AssistantCreate(AssistantChange):
    """A new assistant."""

    graph_id: Name
    assistant_id: Id | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None


class AssistantFilter(Body):
    """Which assistants."""

    metadata: Metadata | None = None
    graph_id: Name | None = None
    name: Name | None = None


class AssistantSearch(AssistantFilter):
    """A page of assistants."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "graph_id", "name", "created_at", "updated_at"] | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[Name], Field(max_length=50)] | None = None
    include_xray: None = Field(None, description="Not supported: get the graph of each.")


class VersionSearch(Body):
    """A page of an assistant's versions."""

    metadata: Metadata | None = None
    limit: Limit = 10
    offset: Offset = 0


class VersionChoice(Body):
    """The version that runs are to take."""

    version: Annotated[int, Field(ge=1, lt=2**31)]
