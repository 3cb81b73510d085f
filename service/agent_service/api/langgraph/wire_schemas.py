"""Bodies of the LangGraph wire, as `langgraph_sdk` and `@langchain/langgraph-sdk` send them.

Every field of theirs is known here. One that Slipway does not honour is refused by its name where a client would miss what it
asks for, and only taken where LangGraph Platform says itself that a server may ignore it.
"""

import re
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from agent_service.api.field_types import Body, JsonObject, JsonValue, Text
from agent_service.runs.thread_types import SortBy, ThreadStatus

MAX_METADATA_BYTES = 16_384
"""Of one object of metadata, as JSON: it is kept with its thread or run, shown in each list, and searched."""

MAX_LIMIT = 1_000
"""Of one page, as in the clients."""

MAX_SUPERSTEPS = 200
"""That a new thread may be given: each is a state that is computed and stored while the caller waits."""

MAX_UPDATES = 50
"""Of one superstep."""

MAX_DELAY_SECONDS = 30 * 86_400
"""That a run may wait before it begins (`after_seconds`)."""


def _small(value: dict[str, Any]) -> dict[str, Any]:
    size = len(orjson.dumps(value))
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"expected at most {MAX_METADATA_BYTES} bytes of JSON, got {size}")
    return value


def listed(value: object) -> object:
    """One name as a list of it."""
    return [value] if isinstance(value, str) else value


def _uuid(value: object) -> object:
    """Strict models take no text for a UUID."""
    return UUID(value) if isinstance(value, str) else value


Metadata = Annotated[JsonObject, AfterValidator(_small)]

Id = Annotated[UUID, BeforeValidator(_uuid)]

Name = Annotated[Text, StringConstraints(min_length=1, max_length=200)]

CheckpointId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]

Namespace = Annotated[Text, StringConstraints(max_length=1_000)]

Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]

Offset = Annotated[int, Field(ge=0, le=1_000_000)]


class Checkpoint(Body):
    """A place in a thread's history."""

    checkpoint_id: CheckpointId | None = None
    checkpoint_ns: Namespace | None = None
    checkpoint_map: Annotated[dict[Namespace, CheckpointId], Field(max_length=100)] | None = None
    thread_id: Name | None = None


class SeedUpdate(Body):
    """What a node is to have returned: values, or a command."""

    values: JsonValue | None = None
    command: "Command | None" = None
    as_node: Name


class Superstep(Body):
    """Updates of one step."""

    updates: Annotated[list[SeedUpdate], Field(min_length=1, max_length=MAX_UPDATES)]


class ThreadCreate(Body):
    """A new thread."""

    thread_id: Id | None = None
    metadata: Metadata | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    graph_id: Name | None = None
    ttl: None = Field(None, description="Not supported: sessions live as long as SESSION_RETENTION_DAYS says.")
    supersteps: Annotated[list[Superstep], Field(min_length=1, max_length=MAX_SUPERSTEPS)] | None = Field(
        None, description="A history for the new thread, whose `graph_id` is to be given beside."
    )


class ThreadPatch(Body):
    """Keys that are put into a thread's metadata."""

    metadata: Metadata
    ttl: None = Field(None, description="Not supported.")


class ThreadFilter(Body):
    """Which threads."""

    metadata: Metadata | None = None
    values: None = Field(None, description="Not supported: search by metadata.")
    status: ThreadStatus | None = None


class ThreadSearch(ThreadFilter):
    """A page of threads."""

    ids: Annotated[list[Id], Field(max_length=MAX_LIMIT)] | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: SortBy | None = None
    sort_order: Literal["asc", "desc"] | None = None
    select: Annotated[list[Name], Field(max_length=50)] | None = None
    extract: None = Field(None, description="Not supported: select `values`.")


class StateUpdate(Body):
    """A change of a thread's state, as if a node had returned it."""

    values: JsonValue | None = None
    as_node: Name | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: CheckpointId | None = None


Select = Annotated[list[Name], Field(max_length=50)]
"""Fields of a thread or a state; of a state also `values.<key>`."""


class StateAt(Body):
    """Which state."""

    checkpoint: Checkpoint
    subgraphs: bool | None = None
    select: Select | None = None


class ConfigOfCheckpoint(Body):
    """The form in which the JavaScript client names one."""

    configurable: Checkpoint
    tags: JsonValue | None = None
    metadata: JsonValue | None = None


class History(Body):
    """A page of a thread's states, the newest first."""

    limit: Limit = 10
    before: CheckpointId | Checkpoint | ConfigOfCheckpoint | None = None
    metadata: Metadata | None = None
    checkpoint: Checkpoint | None = None
    select: Select | None = None


StreamMode = Literal["values", "updates", "messages", "messages-tuple", "custom", "events", "debug", "tasks", "checkpoints"]

Nodes = Annotated[list[Name], Field(max_length=1_000), BeforeValidator(listed)]


class Target(Body):
    """A node, and what it is sent."""

    node: Name
    input: JsonValue | None = None


class Command(Body):
    """What a run that waits is told: an answer, a change of state, where to go on."""

    resume: JsonValue | None = None
    update: JsonValue | None = None
    goto: Name | Target | Annotated[list[Name | Target], Field(max_length=1_000)] | None = None


class RunConfig(Body):
    """LangChain's config, as far as a caller may set it."""

    configurable: JsonObject | None = None
    tags: Annotated[list[Name], Field(max_length=50)] | None = None
    metadata: Metadata | None = None
    recursion_limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    run_name: None = Field(None, description="Not supported: runs are named in traces by Slipway.")
    max_concurrency: Annotated[int, Field(ge=1)] | None = None


class RunCreate(Body):
    """A run, on a thread or without one."""

    assistant_id: Name
    input: JsonValue | None = None
    command: Command | None = None
    metadata: Metadata | None = None
    config: RunConfig | None = None
    context: JsonObject | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_id: CheckpointId | None = None
    stream_mode: Annotated[list[StreamMode], Field(max_length=20), BeforeValidator(listed)] | None = None
    stream_subgraphs: bool | None = None
    interrupt_before: Nodes | None = None
    interrupt_after: Nodes | None = None
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] | None = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    on_completion: Literal["delete", "keep"] | None = None
    if_not_exists: Literal["create", "reject"] | None = None
    after_seconds: Annotated[float | None, Field(ge=0, le=MAX_DELAY_SECONDS, strict=False)] = None
    webhook: Annotated[Text, StringConstraints(max_length=2_000)] | None = Field(
        None, description="Told of the run's end by a POST; its host must be in WEBHOOK_HOSTS."
    )
    feedback_keys: Annotated[list[Name], Field(max_length=20), BeforeValidator(listed)] | None = Field(
        None, description="The event `feedback` before the end names for each the address that takes a thumb."
    )
    # Slipway does these always: all streams can be resumed, all steps are stored while the run goes on and before its end.
    stream_resumable: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None
    strict_resume: bool | None = Field(None, description="An answer to what does not wait for one is refused, not passed over.")
    langsmith_tracer: None = Field(None, description="Not supported: runs are traced to the project of LANGSMITH_PROJECT.")
    langsmith_tracing: None = Field(None, description="Not supported, likewise.")
    ttl: None = Field(None, description="Not supported.")


def snake_case(given: Any) -> Any:
    """Options as JavaScript names them: `@langchain/langgraph-sdk` sends them so in a batch, and one of them in `run.start`."""
    if not isinstance(given, dict):
        return given
    told: dict[Any, Any] = {}
    for name, value in given.items():
        snake = CAPITAL.sub(lambda found: f"_{found[0].lower()}", name)
        told[snake if snake in RunCreate.model_fields else name] = given.get(snake, value)
    return told


CAPITAL = re.compile("[A-Z]")

RunOfBatch = Annotated[RunCreate, BeforeValidator(snake_case)]


class CancelMany(Body):
    """Which runs to cancel."""

    status: Literal["pending", "running", "all"] | None = None
    thread_id: Id | None = None
    run_ids: Annotated[list[Id], Field(max_length=MAX_LIMIT)] | None = None


class Prune(Body):
    """Threads to delete."""

    thread_ids: Annotated[list[Id], Field(max_length=100)]
    strategy: Literal["delete"] | None = Field(None, description="Only `delete`: older states go by THREAD_HISTORY_HOURS.")
