"""Sessions, feedback, usage, stream tokens: what an owner asks about."""

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep
from agent_service.api.field_types import SESSION_ID_PATTERN, Text
from agent_service.api.json_body import JsonResponse, JsonRoute
from agent_service.api.openapi import PROBLEMS
from agent_service.api.schemas import (
    BudgetReport,
    CallerView,
    FeedbackRequest,
    History,
    Passages,
    SessionChange,
    SessionList,
    StreamToken,
    Thumb,
    UsageReport,
)
from agent_service.errors import InvalidRequest
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.budget_report import budget_report
from agent_service.runs.session_store import PAGE_RUNS
from agent_service.runs.usage import GROUPS, Group, usage

router = APIRouter(route_class=JsonRoute, responses=PROBLEMS)

SessionPath = Annotated[str, Path(pattern=SESSION_ID_PATTERN)]

GROUP_BY_PATTERN = f"^({'|'.join(GROUPS)})(,({'|'.join(GROUPS)}))*$"


@router.get("/sessions", response_model=SessionList, tags=["sessions"])
async def list_sessions(
    res: ResourcesDep,
    principal: Caller,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    text: Annotated[
        Text,
        Query(
            max_length=200,
            description="Only those with this in their title or a question, of the newest 500 and 100 questions of each.",
        ),
    ] = "",
    served: Annotated[bool, Query(description="Only those whose graph is served here and takes questions.")] = False,
) -> Response:
    """The caller's sessions, the most recent first."""
    graphs = [each.name for each in res.graphs.by_name.values() if each.chats] if served else None
    return JsonResponse({"sessions": await res.sessions.list(principal, limit=limit, graphs=graphs, text=text.strip())})


@router.patch("/sessions/{session_id}", status_code=204, tags=["sessions"])
async def rename_session(session_id: SessionPath, body: SessionChange, res: ResourcesDep, principal: Caller) -> Response:
    """Gives a session another title."""
    await res.sessions.rename(principal, session_id, body.title.strip())
    return Response(status_code=204)


@router.get("/sessions/{session_id}/messages", response_model=History, tags=["sessions"])
async def get_messages(
    session_id: SessionPath,
    res: ResourcesDep,
    principal: Caller,
    limit: Annotated[int, Query(ge=10, le=PAGE_RUNS, description="Runs whose messages are told, the newest.")] = PAGE_RUNS,
    before: Annotated[UUID | None, Query(description="Only runs before this one: `earlier` of the page behind it.")] = None,
) -> Response:
    """Questions and answers, the run that is going, the decision that is waited for."""
    async with res.rendering:
        return JsonResponse(await res.sessions.history(principal, session_id, limit=limit, before=before))


@router.get("/runs/{run_id}/passages", response_model=Passages, tags=["runs"])
async def get_passages(run_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """What the documents say where the run's sources lead; sources from elsewhere are not among them."""
    return JsonResponse({"passages": await res.sessions.passages(principal, run_id)})


@router.delete("/sessions/{session_id}", status_code=204, tags=["sessions"])
async def erase_session(session_id: SessionPath, res: ResourcesDep, principal: Caller) -> Response:
    """Erases a session with its runs, events and checkpoints."""
    await res.sessions.erase(principal, session_id)
    return Response(status_code=204)


@router.post("/feedback", status_code=204, tags=["feedback"])
async def give_feedback(body: FeedbackRequest, res: ResourcesDep, principal: Caller) -> Response:
    """A thumb for a run: 1 is up, 0 is down. Sent on to LangSmith when it is on."""
    return await _rate(res, principal, body.run_id, body)


@router.post("/runs/{run_id}/feedback", status_code=204, tags=["feedback"])
async def give_run_feedback(run_id: UUID, body: Thumb, res: ResourcesDep, principal: Caller) -> Response:
    """The same, at the address that the event `feedback` of a client of LangGraph names."""
    return await _rate(res, principal, run_id, body)


async def _rate(res: Resources, principal: Principal, run_id: UUID, thumb: Thumb) -> Response:
    version = await res.sessions.rate(principal, run_id, thumb.score, thumb.comment)
    if version is not None:
        res.metrics.count_thumb(thumb.score, version)
    if res.langsmith:
        await res.langsmith.send_feedback(run_id, thumb.score, thumb.comment)
    return Response(status_code=204)


@router.get("/usage", response_model=UsageReport, tags=["usage"])
async def get_usage(
    res: ResourcesDep,
    principal: Caller,
    group_by: Annotated[
        str,
        Query(description=f"Any of {', '.join(GROUPS)}, separated by commas.", json_schema_extra={"pattern": GROUP_BY_PATTERN}),
    ] = "day,model",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Response:
    """Tokens and USD from the ledger (days in UTC): one's own, an admin's tenant's, the platform's of everyone.

    `total` is of all that was asked for, `month` of the month that is going, whatever was asked for.
    """
    report = await usage(res.pool, principal, _groups(group_by), since=since, until=until)
    return JsonResponse(_with_numbers(asdict(report)))


@router.get("/budgets", response_model=BudgetReport, tags=["usage"])
async def get_budgets(res: ResourcesDep, principal: Caller) -> Response:
    """What was spent of which budget: one's own day, an admin's tenant and its users, the platform's all."""
    rows, truncated = await budget_report(res.pool, principal, res.settings.budget_limits)
    return JsonResponse(_with_numbers({"budgets": rows, "truncated": truncated}))


@router.get("/auth/me", response_model=CallerView, tags=["auth"])
async def get_me(principal: Caller) -> Response:
    """Who calls: the tenant, the user, and what role allows them to see."""
    return JsonResponse({"tenant": principal.tenant, "user": principal.user, "role": principal.role})


@router.post("/auth/stream-token", response_model=StreamToken, tags=["auth"])
async def make_stream_token(
    res: ResourcesDep,
    principal: Caller,
    run_id: Annotated[UUID | None, Query(description="Whose stream it opens. Without: it starts one run, once.")] = None,
) -> Response:
    """A short-lived token for the stream of one run, for `?token=` of an EventSource."""
    if run_id:
        await res.runs.get(principal, run_id)
    token, expires_in = res.authenticator.stream_tokens.issue(principal, run_id)
    return JsonResponse({"token": token, "expires_in": expires_in}, headers={"Cache-Control": "no-store"})


def _with_numbers(value: Any) -> Any:
    """Decimals as numbers: 15 digits are exact, 9,999,999.99999999 USD."""
    match value:
        case dict():
            return {key: _with_numbers(item) for key, item in value.items()}
        case list():
            return [_with_numbers(item) for item in value]
        case Decimal():
            return float(value)
    return value


def _groups(text: str) -> list[Group]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not set(names) <= set(GROUPS):
        raise InvalidRequest(f"group_by: expected some of {', '.join(GROUPS)}, separated by commas", field="group_by")
    return [group for group in GROUPS if group in names]
