"""Asking: to the end, as a stream, or accepted and followed later."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agent_service.api.deps import IdempotencyKeyDep, ResourcesDep, RespondAsync, WaitingCaller, WaitingWatcher, run_in_log
from agent_service.api.field_types import GraphName, Question, SessionId
from agent_service.api.json_body import JsonResponse, JsonRoute
from agent_service.api.openapi import PROBLEMS
from agent_service.api.schemas import ChatRequest, GivenFile, RunAccepted, RunState
from agent_service.api.sse import (
    STREAM,
    LastEventId,
    LastEventIdQuery,
    cancel_unwatched,
    last_event,
    open_stream,
    stream_run,
    until_ended,
)
from agent_service.errors import Forbidden, InvalidRequest
from agent_service.principal import Principal
from agent_service.question_files import read_files
from agent_service.resources import Resources
from agent_service.runs.run_types import Run
from agent_service.runs.usage import run_usage

router = APIRouter(route_class=JsonRoute, tags=["chat"], responses=PROBLEMS)

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": RunAccepted, "description": "Asked for with `Prefer: respond-async`; the run goes on."}
}


@router.post("/chat", response_model=RunState, responses=ACCEPTED)
async def chat(
    request: Request, body: ChatRequest, res: ResourcesDep, principal: WaitingCaller, key: IdempotencyKeyDep, later: RespondAsync
) -> Response:
    """Asks and waits for the answer; with `Prefer: respond-async` answers 202 at once."""
    run = await _asked(res, principal, body, key)
    return accepted(run) if later else await answer(res, principal, run, request, key)


@router.get("/chat/stream", responses=STREAM, response_class=Response)
async def stream_question(
    res: ResourcesDep,
    principal: WaitingWatcher,
    key: IdempotencyKeyDep,
    question: Annotated[Question, Query()],
    session_id: Annotated[SessionId | None, Query()] = None,
    graph: Annotated[GraphName | None, Query()] = None,
    last_event_id: LastEventId = "",
    last_seen: Annotated[LastEventIdQuery, Query(alias="last_event_id")] = "",
) -> Response:
    """Asks, and streams the answer to a browser's EventSource; its reconnect continues the same run."""
    if last := last_event(last_event_id, last_seen):
        return await stream_run(res, principal, last.run_id, last)
    grant = principal.grant
    if grant and not grant.starts:
        raise Forbidden("the stream token is for a run that is there: GET /runs/{run_id}/stream")
    run = await start(res, principal, question, session_id, key, run_id=grant.run_id if grant else None, graph=graph)
    return open_stream(res, run.id)


@router.post("/chat/stream", responses=STREAM, response_class=Response)
async def stream_chat(
    body: ChatRequest, res: ResourcesDep, principal: WaitingCaller, key: IdempotencyKeyDep, last_event_id: LastEventId = ""
) -> Response:
    """Asks, and streams the answer. A retry with Last-Event-ID continues the same run."""
    if last := last_event(last_event_id, ""):
        return await stream_run(res, principal, last.run_id, last)
    run = await _asked(res, principal, body, key)
    return open_stream(res, run.id)


async def _asked(res: Resources, principal: Principal, body: ChatRequest, key: str | None) -> Run:
    return await start(
        res, principal, body.question, body.session_id, key, body.context, graph=body.graph, replaces=body.replaces,
        files=body.files,
    )  # fmt: skip


async def start(
    res: Resources,
    principal: Principal,
    question: str,
    session_id: str | None,
    key: str | None,
    context: dict[str, Any] | None = None,
    run_id: UUID | None = None,
    graph: str | None = None,
    replaces: UUID | None = None,
    files: Sequence[GivenFile] = (),
) -> Run:
    """Starts a run, within MAX_QUESTION_CHARS and the limits of files. Puts its ids on the request's log lines.

    Raises as `read_files` and `RunService.start`.
    """
    limit = res.settings.max_question_chars
    if len(question) > limit:
        raise InvalidRequest(f"question: expected at most {limit} characters, got {len(question)}", field="question")
    settings = res.settings
    given = [(file.name, file.data) for file in files]
    run = await res.runs.start(
        principal,
        question,
        files=read_files(given, most=settings.max_files, max_bytes=settings.max_file_bytes),
        graph=graph,
        session_id=session_id,
        context=context,
        idempotency_key=key,
        run_id=run_id,
        replaces=replaces,
    )
    return run_in_log(run)


def accepted(run: Run) -> Response:
    """202: the run goes on, and its state is found at `Location`."""
    headers = {"Location": f"/runs/{run.id}", "Preference-Applied": "respond-async"}
    body = RunAccepted(run_id=run.id, session_id=run.session_id, status=run.status)
    return JsonResponse(body.model_dump(), 202, headers)


async def answer(res: Resources, principal: Principal, run: Run, request: Request, key: str | None) -> Response:
    """The run's answer; of a client that leaves ON_DISCONNECT is the rule, unless its key says that it may come back."""
    on_leave = None if key else partial(cancel_unwatched, res, run.id)
    await until_ended(res, principal, run, request, on_leave)
    async with res.rendering:
        return await run_state(res, await res.runs.ended(principal, run.id))


async def run_state(res: Resources, run: Run) -> JsonResponse:
    """A run's state with what it cost."""
    spent = await run_usage(res.pool, run.id)
    return JsonResponse(
        {
            "run_id": run.id,
            "session_id": run.session_id,
            "graph": run.graph,
            "status": run.status,
            "outcome": run.outcome,
            "answer": run.answer,
            "cost_usd": spent["cost_usd"],
            "usage": {name: count for name, count in spent.items() if name != "cost_usd"},
            "interrupts": run.interrupts,
            "error": run.error,
            "resumes": run.resumes,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
        }
    )
