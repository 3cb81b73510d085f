"""A run that exists: its state, its stream, decisions, cancelling."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from agent_service.api.chat import ACCEPTED, accepted, answer, run_state
from agent_service.api.decisions import ResumeRequest, decide
from agent_service.api.deps import (
    Caller,
    IdempotencyKeyDep,
    ResourcesDep,
    RespondAsync,
    WaitingCaller,
    WaitingWatcher,
    run_in_log,
)
from agent_service.api.json_body import JsonResponse, JsonRoute
from agent_service.api.openapi import PROBLEMS
from agent_service.api.schemas import RunAccepted, RunCalls, RunState
from agent_service.api.sse import STREAM, LastEventId, LastEventIdQuery, last_event, open_stream, stream_run
from agent_service.question_files import TYPES
from agent_service.runs.usage import run_calls

MOST_FILES = 10_000
"""Beyond what any MAX_FILES lets in."""

# It is of a caller's own making, and must be no page, script or picture of this origin.
DOWNLOAD = {
    "Content-Disposition": "attachment",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}

router = APIRouter(route_class=JsonRoute, tags=["runs"], responses=PROBLEMS)


@router.get("/runs/{run_id}", response_model=RunState)
async def get_run(run_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """State and answer of a run."""
    async with res.rendering:
        return await run_state(res, run_in_log(await res.runs.get(principal, run_id)))


@router.get("/runs/{run_id}/calls", response_model=RunCalls)
async def get_run_calls(run_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """Model calls of a run, with the node and the tokens of each; of one that is going, those that were billed until now."""
    run = run_in_log(await res.runs.get_without_answer(principal, run_id))
    calls, truncated = await run_calls(res.pool, run.id)
    return JsonResponse({"calls": calls, "truncated": truncated})


@router.get("/runs/{run_id}/files/{number}", responses={200: {"content": {kind: {} for kind in TYPES}}}, response_class=Response)
async def get_run_file(
    run_id: UUID, number: Annotated[int, Path(ge=0, le=MOST_FILES)], res: ResourcesDep, principal: Caller
) -> Response:
    """A file of the question of a run, counted from 0. A browser that is led here keeps it, and shows nothing."""
    note, content = await res.sessions.file(principal, run_id, number)
    return Response(content, media_type=note["media_type"], headers=DOWNLOAD)


@router.get("/runs/{run_id}/stream", responses=STREAM, response_class=Response)
async def get_run_stream(
    run_id: UUID,
    res: ResourcesDep,
    principal: WaitingWatcher,
    last_event_id: LastEventId = "",
    last_seen: Annotated[LastEventIdQuery, Query(alias="last_event_id")] = "",
) -> Response:
    """Joins or re-joins a run's stream; 204 when nothing is left to come."""
    return await stream_run(res, principal, run_id, last_event(last_event_id, last_seen))


@router.post(
    "/runs/{run_id}/resume",
    response_model=RunState,
    responses={200: {"content": STREAM[200]["content"]}, **ACCEPTED},
)
async def resume_run(
    request: Request,
    run_id: UUID,
    body: ResumeRequest,
    res: ResourcesDep,
    principal: WaitingCaller,
    key: IdempotencyKeyDep,
    later: RespondAsync,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Decides an interrupt, or goes on after a budget: starts the run that does. `Accept: text/event-stream` streams it."""
    run = run_in_log(await decide(res, principal, await res.runs.get(principal, run_id), body, key))
    if "text/event-stream" in accept:
        return open_stream(res, run.id)
    return accepted(run) if later else await answer(res, principal, run, request, key)


@router.post("/runs/{run_id}/cancel", status_code=202, response_model=RunAccepted)
async def cancel_run(run_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """Stops a run wherever it executes; one that has ended stays as it is."""
    run = run_in_log(await res.runs.cancel(principal, run_id))
    return JsonResponse(RunAccepted(run_id=run.id, session_id=run.session_id, status=run.status).model_dump(), 202)
