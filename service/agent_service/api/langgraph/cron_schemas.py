"""Bodies of the crons of the LangGraph wire."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from agent_service.api.field_types import Body, JsonObject, JsonValue, Text
from agent_service.api.langgraph.wire_schemas import (
    Id,
    Limit,
    Metadata,
    Name,
    Nodes,
    Offset,
    RunConfig,
    RunCreate,
    StreamMode,
    listed,
)
from agent_service.runs.cron_store import CronSort
from agent_service.runs.schedules import MAX_SCHEDULE_CHARS


def _time(value: object) -> object:
    """ISO 8601; without a zone it is UTC."""
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2027-01-31T09:00:00Z") from None


Schedule = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_SCHEDULE_CHARS)]

Time = Annotated[datetime, BeforeValidator(_time)]


class CronChange(Body):
    """What may change of a cron."""

    schedule: Schedule | None = Field(None, description="Five fields: minute, hour, day of the month, month, day of the week.")
    timezone: Annotated[Text, StringConstraints(max_length=64)] | None = Field(
        None, description="Such as Europe/Paris; UTC by default."
    )
    end_time: Time | None = None
    enabled: bool | None = None
    on_run_completed: Literal["delete", "keep"] | None = None
    input: JsonValue | None = None
    metadata: Metadata | None = None
    config: RunConfig | None = None
    context: JsonObject | None = None
    interrupt_before: Nodes | None = None
    interrupt_after: Nodes | None = None
    webhook: Annotated[Text, StringConstraints(max_length=2_000)] | None = None
    stream_mode: Annotated[list[StreamMode], Field(max_length=20), BeforeValidator(listed)] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None


class ThreadCronCreate(CronChange):
    """A cron on a thread."""

    assistant_id: Name
    schedule: Schedule
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] | None = None
    on_run_completed: None = Field(None, description="Only for a cron without a thread.")


class CronCreate(CronChange):
    """A cron whose runs have threads of their own."""

    assistant_id: Name
    schedule: Schedule
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] | None = None


class CronFilter(Body):
    """Which crons."""

    assistant_id: Name | None = None
    thread_id: Id | None = None
    enabled: bool | None = None
    metadata: Metadata | None = None


class CronSearch(CronFilter):
    """A page of crons."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: CronSort | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[Name], Field(max_length=50)] | None = None


OF_CRON = frozenset({"schedule", "timezone", "end_time", "enabled", "on_run_completed"})


def run_of(payload: dict[str, Any]) -> RunCreate:
    """The run that a cron's payload asks for."""
    return RunCreate.model_validate({name: value for name, value in payload.items() if name not in OF_CRON})
