"""Requests and responses of the API. Unknown fields of a request are refused."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from agent_service.api.field_types import OF_FILES, Body, FileName, GraphName, JsonObject, Question, SessionId, Text
from agent_service.outcomes import Outcome
from agent_service.principal import Role


class GivenFile(Body):
    """A picture or a PDF; which of them, its first bytes say."""

    name: FileName = Field(description="As people know it. No path.")
    data: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="Base64, at most MAX_FILE_BYTES bytes.", json_schema_extra={"contentEncoding": "base64"}
    )


class ChatRequest(Body):
    question: Question = Field(description="At most MAX_QUESTION_CHARS characters.")
    session_id: SessionId | None = Field(
        None, description="An existing session of the caller, or a new id. Empty: a new session."
    )
    graph: GraphName | None = Field(
        None, description="Name of a graph. Empty: the session's own; in a new session the default one."
    )
    replaces: UUID | None = Field(
        None,
        strict=False,
        description="Run of an earlier question of the session: it and all that came behind it are undone, and this is asked"
        " in their place.",
    )
    files: list[GivenFile] = Field(
        [],
        description="At most MAX_FILES, for a graph of FILE_GRAPHS: content blocks of the question's message.",
        json_schema_extra={OF_FILES: True},
    )
    context: JsonObject | None = Field(
        None, description="For a graph with a `context_schema`: values over those of AGENT_CONTEXT."
    )


class Usage(BaseModel):
    """Of all model calls of the run, `cached_tokens` a part of `input_tokens`."""

    model_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cached_answer: bool = Field(False, description="The answer was made by another run, and cost nothing here.")


class RunState(BaseModel):
    """A run as it stands."""

    run_id: UUID
    session_id: str
    graph: str
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


def _no_bool(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("expected 0 or 1")  # noqa: TRY004  # pydantic turns a ValueError into its own
    return value


class Thumb(Body):
    # Not strict: JSON's 1.0 is an integer, too. A bool is none.
    score: Annotated[int, Field(strict=False, ge=0, le=1, description="1 is up, 0 is down."), BeforeValidator(_no_bool)]
    comment: Annotated[Text, StringConstraints(max_length=2_000)] | None = None


class FeedbackRequest(Thumb):
    run_id: Annotated[UUID, Field(strict=False)]


class Session(BaseModel):
    session_id: str
    graph: str | None = Field(description="Which all its runs are of; null before the first.")
    title: str
    created_at: datetime
    last_active_at: datetime


class SessionChange(Body):
    title: Annotated[Question, StringConstraints(max_length=80)]


class SessionList(BaseModel):
    sessions: list[Session]


class AskedFile(BaseModel):
    """A file that was asked about."""

    name: str
    media_type: str
    bytes: int


class Message(BaseModel):
    role: Literal["user", "assistant"]
    content: str
    run_id: UUID
    created_at: datetime | None
    outcome: Outcome | None = None
    feedback: Literal[0, 1] | None = None
    sources: list[dict[str, Any]] | None = Field(None, description="What the run's tools cited.")
    files: list[AskedFile] | None = Field(None, description="Of the question; GET /runs/{run_id}/files/{number} has each.")
    decided: list[Any] | None = Field(None, description="What a person decided for this run to go on, one for each interrupt.")


class Interrupted(BaseModel):
    """The run that waits for a decision, and for which."""

    run_id: UUID
    interrupts: list[dict[str, Any]]


class History(BaseModel):
    """A conversation, oldest message first."""

    session_id: str
    messages: list[Message]
    active_run_id: UUID | None
    interrupted: Interrupted | None
    earlier: UUID | None = Field(description="Give it as `before` for older messages; null: there are none.")


class CitedPassage(BaseModel):
    title: str
    section: str
    source: str
    text: str


class Passages(BaseModel):
    passages: list[CitedPassage]


class UsageTotal(BaseModel):
    """Of all that was asked for. `cost_usd` leaves out `unpriced_calls`."""

    model_calls: int
    runs: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced_calls: int = Field(description="Calls of models without a price: their cost is in no sum.")
    estimated_calls: int = Field(description="Calls whose tokens were counted here, as the endpoint reported none.")


class UsageRow(UsageTotal):
    """One group's sum; only the columns that were grouped by are set."""

    day: str | None = None
    month: str | None = None
    model: str | None = None
    user: str | None = None
    session: str | None = None
    route: str | None = None
    graph: str | None = None


class UnpricedModel(BaseModel):
    """Whose calls are in no sum."""

    model: str
    model_calls: int


class UsageMonth(BaseModel):
    """The month that is going, of all that the caller may see. USD."""

    month: str = Field(description="As 2026-11, in UTC.")
    spent_usd: float
    projected_usd: float = Field(description="At its end, if the rest costs as the last seven days did.")


class UsageReport(BaseModel):
    rows: list[UsageRow]
    total: UsageTotal
    truncated: bool = Field(description="There are more rows than the 10,000 that are shown; `total` has them all.")
    unpriced: list[UnpricedModel]
    month: UsageMonth


class BudgetRow(BaseModel):
    """What was spent of one budget, and how much may be; a limit of null is none."""

    tenant: str
    user: str = Field(description="Empty: the tenant's own budget.")
    period: Literal["day", "month"] = Field(description="A user's day, a tenant's month; UTC.")
    tokens: int
    max_tokens: int | None
    usd: float
    max_usd: float | None
    own: bool = Field(description="Set by `slipway budgets set`; else it is the settings'.")


class BudgetReport(BaseModel):
    budgets: list[BudgetRow]
    truncated: bool = Field(description="There are more than the 10,000 that are shown.")


class RunCall(BaseModel):
    """A model call of a run, as the ledger has it."""

    attempt: int
    call: int = Field(description="Its number in the attempt.")
    node: str
    model: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: float | None = Field(description="null: the model has no price.")
    estimated: bool = Field(description="Its tokens were counted here, as the endpoint reported none.")


class RunCalls(BaseModel):
    calls: list[RunCall] = Field(description="In their order, of all attempts.")
    truncated: bool = Field(description="There are more than the 1,000 that are shown.")


class CallerView(BaseModel):
    """Who calls, as the service knows them."""

    tenant: str
    user: str
    role: Role


class StreamToken(BaseModel):
    token: str
    expires_in: int = Field(description="Seconds.")
