"""What a run is: its row, its model calls, its ending."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

from agent_service.langgraph_file import DEFAULT_NAME
from agent_service.outcomes import Outcome
from agent_service.principal import Principal

BREAKPOINT = "breakpoint"
"""Id, among a run's interrupts, of a stop that asks for nothing but to go on."""

DEFAULT_GRAPH = DEFAULT_NAME
"""Also of every run and session from before graphs had names."""

Status = Literal["queued", "running", "finished"]


class RunInput(TypedDict, total=False):
    """What the graph is to be given; kept as JSON."""

    messages: list[dict[str, Any]]
    """OpenAI-style, of a question. Any: what a message holds is between its sender and the graph."""
    resume: dict[str, object]
    """Of a decision: values by interrupt id, none at a breakpoint."""
    context: dict[str, object] | None
    """For `Runtime.context`."""
    mend: bool
    """The history may lack results of tools: the run before was stopped."""
    # Of a client of LangGraph:
    state: Any
    """Instead of messages: whatever the graph takes; None: it goes on from where it stands. Any: it is between the two."""
    command: "CommandInput"
    """Instead of both."""
    config: "ConfigInput"
    checkpoint: "CheckpointInput"
    """Where the first attempt begins, if not at the latest state."""
    interrupt_before: list[str]
    interrupt_after: list[str]
    """Nodes, or `*` for all."""
    record: list[str]
    """Stream modes that are told by events (runs/recorder.py)."""
    subgraphs: bool
    """Of subgraphs, too."""
    rolls_back: list[str]
    """Runs whose work is undone before this one begins."""
    wire: dict[str, Any]
    """What the client is told of its run again, and nobody else asks for."""


class CommandInput(TypedDict, total=False):
    """Of LangGraph's Command; what is None was not given."""

    resume: object
    by_interrupt: bool
    """`resume` holds an answer for each interrupt, by its id."""
    update: object
    goto: object


class ConfigInput(TypedDict, total=False):
    """What a caller may set of the graph's config."""

    configurable: dict[str, object]
    tags: list[str]
    metadata: dict[str, object]
    recursion_limit: int
    max_concurrency: int


class CheckpointInput(TypedDict, total=False):
    """A place in the thread's history."""

    checkpoint_id: str
    checkpoint_ns: str
    checkpoint_map: dict[str, str]


class Interrupt(TypedDict):
    """What a run waits for. `value` is what the graph asked with: JSON of any shape."""

    id: str
    value: object


class RunError(TypedDict):
    """Why a run failed: `code` is for programs, `message` for people."""

    code: str
    message: str
    retryable: bool


class RunUsage(TypedDict):
    """Of all model calls of a run. `cached_tokens` are a part of `input_tokens`; `cost_usd` is None when a model has no price."""

    model_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None
    cached_answer: NotRequired[bool]
    """The answer is that of another run (RESPONSE_CACHE_SECONDS); not there when it is not."""


class LogFields(TypedDict):
    """What each log line about a run has."""

    run_id: str
    session_id: str
    principal: str
    attempt: int
    trace_id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Run:
    """A row of slipway.runs."""

    id: UUID
    thread_id: str
    """Of its session: LangGraph's thread, and ours alone. Two callers' sessions of one id have one each."""

    session_id: str
    """As its owner calls it."""

    tenant: str
    user_id: str
    question: str
    input: RunInput
    status: Status
    attempt: int
    crashes: int
    cancel_requested: bool
    events_pruned: bool
    created_at: datetime
    resumes: UUID | None = None
    outcome: Outcome | None = None
    answer: str = ""
    route: str | None = None
    interrupts: list[Interrupt] | None = None
    error: RunError | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    traceparent: str | None = None
    graph: str = DEFAULT_GRAPH
    """Name of the graph that executes it."""
    request_hash: str | None = None
    """Of what was asked for under its idempotency key; None without a key."""

    def belongs_to(self, principal: Principal) -> bool:
        """Whether the principal owns its session."""
        return (self.tenant, self.user_id) == (principal.tenant, principal.user)

    @property
    def at_breakpoint(self) -> bool:
        """Whether it stopped at a static breakpoint, which asks for nothing but to go on."""
        return [item["id"] for item in self.interrupts or []] == [BREAKPOINT]

    @property
    def principal(self) -> Principal:
        """Its owner. The role is not kept: it counts when a run starts."""
        return Principal(self.tenant, self.user_id)

    @property
    def ids(self) -> LogFields:
        """What each log line about it has."""
        fields = LogFields(run_id=str(self.id), session_id=self.session_id, principal=self.principal.label, attempt=self.attempt)
        if self.traceparent:
            fields["trace_id"] = self.traceparent.split("-")[1]
        return fields


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A row of slipway.ledger. `cost_usd` is None when the model has no price; `estimated` when usage never arrived."""

    attempt: int
    call: int
    """Its number within the attempt."""
    node: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    estimated: bool = False


def used(calls: Sequence[ModelCall]) -> RunUsage:
    """Tokens and cost in USD of all calls together; the cost is None when a model has no price."""
    priced = [call.cost_usd for call in calls if call.cost_usd is not None]
    return {
        "model_calls": len(calls),
        "input_tokens": sum(call.input_tokens for call in calls),
        "cached_tokens": sum(call.cached_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
        "cost_usd": float(sum(priced, Decimal(0))) if len(priced) == len(calls) else None,
    }


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    outcome: Outcome
    error: RunError | None = None
    interrupts: list[Interrupt] = field(default_factory=list)


class HandOver:
    """Instead of an ending: the run goes back into the queue, for a peer to go on from its last checkpoint."""
