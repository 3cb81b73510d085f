"""What a run is made of: the row, its events and their ids."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID

from agent_service.errors import InvalidRequest
from agent_service.outcomes import Outcome
from agent_service.principal import Principal

BREAKPOINT = "breakpoint"
"""Id, among a run's interrupts, of a stop that asks for nothing but to go on."""

Status = Literal["queued", "running", "finished"]

EventKind = Literal[
    "text",
    "message",
    "reasoning",
    "partial",
    "source",
    "run",
    "node",
    "tool_start",
    "tool_end",
    "custom",
    "interrupt",
    "usage",
    "reset",
    "gap",
    "error",
    "end",
]


class Position(NamedTuple):
    """A place in a run's stream; tuples compare in the order in which events happened."""

    attempt: int
    seq: int


START = Position(0, 0)
"""Before the first event."""


class Event(NamedTuple):
    """One item of a run's stream in its neutral form; each wire is a view of it.

    `payload` is a string for `text`, `end` (empty) and `message` (the id of the message that ends there; kept for
    recoveries, shown on no wire), else a JSON object.
    """

    attempt: int
    seq: int
    kind: EventKind
    node: str
    payload: Any

    @property
    def position(self) -> Position:
        return Position(self.attempt, self.seq)


_EVENT_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class EventId:
    """`<run_id>-<attempt>-<seq>` of the wire."""

    run_id: UUID
    position: Position

    @classmethod
    def parse(cls, text: str, *, field: str) -> Self:
        match = _EVENT_ID.fullmatch(text)
        if not match:
            raise InvalidRequest(f"{field}: expected the id of an event, <run_id>-<attempt>-<seq>", field=field)
        return cls(UUID(match[1]), Position(int(match[2]), int(match[3])))


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
    input: dict[str, Any]
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
    interrupts: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    traceparent: str | None = None
    request_hash: str | None = None
    """Of what was asked for under its idempotency key; None without a key."""

    def belongs_to(self, principal: Principal) -> bool:
        return (self.tenant, self.user_id) == (principal.tenant, principal.user)

    @property
    def at_breakpoint(self) -> bool:
        return [item["id"] for item in self.interrupts or []] == [BREAKPOINT]

    @property
    def principal(self) -> Principal:
        return Principal(self.tenant, self.user_id)

    @property
    def ids(self) -> dict[str, Any]:
        """What each log line about it has."""
        trace = {"trace_id": self.traceparent.split("-")[1]} if self.traceparent else {}
        return {
            "run_id": str(self.id),
            "session_id": self.session_id,
            "principal": self.principal.label,
            "attempt": self.attempt,
            **trace,
        }


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A row of slipway.ledger. `cost_usd` is None when the model has no price; `estimated` when usage never arrived."""

    call: int
    node: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    outcome: Outcome
    error: dict[str, Any] | None = None
    interrupts: list[dict[str, Any]] = field(default_factory=list)


class HandOver:
    """Instead of an ending: the run goes back into the queue, for a peer to go on from its last checkpoint."""
