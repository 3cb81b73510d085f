"""Requests and responses of the API. Unknown fields are refused; text is checked for what Postgres or a terminal cannot take."""

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from agent_service.outcomes import Outcome

ALLOWED_CONTROLS = "\n\r\t"


def _no_controls(text: str) -> str:
    for char in text:
        if unicodedata.category(char) in {"Cc", "Cs"} and char not in ALLOWED_CONTROLS:
            raise ValueError(f"control character U+{ord(char):04X} is not allowed")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected some text, got only white space")
    return text


Text = Annotated[str, AfterValidator(_no_controls)]
Question = Annotated[Text, StringConstraints(min_length=1), AfterValidator(_not_blank)]
SessionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ChatRequest(Body):
    question: Question = Field(description="At most MAX_QUESTION_CHARS characters.")
    session_id: SessionId | None = Field(
        None, description="An existing session of the caller, or a new id. Empty: a new session."
    )


class Usage(BaseModel):
    model_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


class RunState(BaseModel):
    run_id: UUID
    session_id: str
    status: Literal["queued", "running", "finished"]
    outcome: Outcome | None
    answer: str
    usage: Usage
    cost_usd: float | None = Field(description="null when a model of the run has no price")
    interrupts: list[dict[str, Any]] | None = Field(description="What waits for a decision, when the outcome is `interrupted`.")
    error: dict[str, Any] | None
    resumes: UUID | None = Field(description="The run whose interrupt this one decided.")
    created_at: datetime
    finished_at: datetime | None


class RunAccepted(BaseModel):
    """Answer to `Prefer: respond-async`; follow `/runs/{run_id}/stream`."""

    run_id: UUID
    session_id: str
    status: Literal["queued", "running", "finished"]


class EditedAction(Body):
    name: str
    args: dict[str, Any]


class Decision(Body):
    type: Literal["approve", "edit", "reject", "respond"]
    edited_action: EditedAction | None = None
    message: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "edit") != (self.edited_action is not None):
            raise ValueError("edited_action: expected with type `edit`, and only there")
        return self


class ResumeRequest(Body):
    """Exactly one of the three."""

    decisions: Annotated[list[Decision], Field(min_length=1, max_length=50)] | None = Field(
        None, description="One for each action that a tool's approval asked for, in order."
    )
    value: Any = Field(None, description="What a graph's own interrupt() returns.")
    values: dict[str, Any] | None = Field(None, description="The same by interrupt id, when several wait.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1 or (
            self.decisions is None and self.values is None and "value" not in self.model_fields_set
        ):
            raise ValueError("expected exactly one of decisions, value, values")
        return self

    @property
    def resume_value(self) -> Any:
        if self.decisions is not None:
            return {"decisions": [d.model_dump(exclude_none=True) for d in self.decisions]}
        return self.values if self.values is not None else self.value


class FeedbackRequest(Body):
    run_id: Annotated[UUID, Field(strict=False)]
    score: Literal[0, 1]
    comment: Annotated[Text, StringConstraints(max_length=2_000)] | None = None


class Session(BaseModel):
    session_id: str
    title: str
    created_at: datetime
    last_active_at: datetime


class SessionList(BaseModel):
    sessions: list[Session]


class Message(BaseModel):
    role: Literal["user", "assistant"]
    content: str
    run_id: UUID
    created_at: datetime | None
    outcome: Outcome | None = None
    feedback: Literal[0, 1] | None = None


class Interrupted(BaseModel):
    run_id: UUID
    interrupts: list[dict[str, Any]]


class History(BaseModel):
    session_id: str
    messages: list[Message]
    active_run_id: UUID | None
    interrupted: Interrupted | None


class UsageRow(BaseModel):
    day: str | None = None
    model: str | None = None
    user: str | None = None
    session: str | None = None
    route: str | None = None
    model_calls: int
    runs: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced_calls: int


class UsageReport(BaseModel):
    rows: list[UsageRow]


class StreamToken(BaseModel):
    token: str
    expires_in: int = Field(description="Seconds.")
