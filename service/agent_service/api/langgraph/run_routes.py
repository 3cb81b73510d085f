"""Runs of the LangGraph wire, on threads and without one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, Query
from pydantic import StringConstraints
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep, WaitingCaller, run_in_log
from agent_service.api.json_body import JsonRoute
from agent_service.api.langgraph.assistants import assistant_named, schema_of
from agent_service.api.langgraph.encoder import HEARTBEAT, HEARTBEAT_SECONDS, Encoder, never_silent
from agent_service.api.langgraph.pages import page
from agent_service.api.langgraph.run_inputs import ALL_MODES, asked_of
from agent_service.api.langgraph.views import outcome_view
from agent_service.api.langgraph.wire_schemas import CancelMany, Limit, Offset, RunCreate, RunOfBatch, StreamMode
from agent_service.api.openapi import PROBLEMS, event_stream
from agent_service.api.sse import StreamResponse
from agent_service.errors import InvalidRequest, NotFound, SlipwayError
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.assistant import run_input
from agent_service.runs.events import START, EventId, Position
from agent_service.runs.on_thread import OnThread
from agent_service.runs.recorder import MESSAGE_MODES
from agent_service.runs.run_types import Run
from agent_service.runs.run_view import assistant_of, run_view
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_types import NamedThread
from agent_service.setting_types import split_names

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the last is `end`.",
        "content": event_stream("JSON, of the stream mode that `event` names."),
    },
}

STILL_THERE = b"\n"
"""What waits for JSON may be sent white space before it."""

GRACE_SECONDS = 5.0
"""That a client whose connection broke has to come back, here or elsewhere, before `on_disconnect: cancel` stops its run."""

MAX_BATCH = 100
"""Runs that one request may begin."""

RunStatusName = Literal["pending", "running", "success", "error", "timeout", "interrupted"]

Namespaces = Annotated[
    list[Annotated[str, StringConstraints(max_length=1_000)]] | None,
    Query(max_length=100, description="Tells only of these graphs, each without those inside; empty: the graph itself."),
]

Action = Annotated[Literal["interrupt", "rollback"], Query()]


# Beginning


@router.post("/threads/{thread_id}/runs")
async def create_run(thread_id: UUID, body: RunCreate, res: ResourcesDep, principal: Caller) -> Response:
    """Begins a run and answers at once."""
    run = await begin(res, principal, body, thread_id, record=ALL_MODES)
    return _json(run_view(run), headers={"Content-Location": _path(run)})


@router.post("/threads/{thread_id}/runs/stream", responses=STREAM, response_class=Response)
async def stream_run(
    thread_id: UUID, body: RunCreate, res: ResourcesDep, principal: WaitingCaller, namespace: Namespaces = None
) -> Response:
    """Begins a run and streams it."""
    return _stream(res, await begin(res, principal, body, thread_id), body.stream_mode, namespaces=namespace)


@router.post("/threads/{thread_id}/runs/wait", response_class=Response)
async def wait_for_run(thread_id: UUID, body: RunCreate, res: ResourcesDep, principal: WaitingCaller) -> Response:
    """Begins a run and waits for the state that it ends with."""
    return _wait(res, principal, await begin(res, principal, body, thread_id, record=()))


@router.post("/runs")
async def create_stateless_run(body: RunCreate, res: ResourcesDep, principal: Caller) -> Response:
    """Begins a run on a thread of its own."""
    run = await begin(res, principal, body, None, record=ALL_MODES)
    return _json(run_view(run), headers={"Content-Location": _path(run)})


@router.post("/runs/stream", responses=STREAM, response_class=Response)
async def stream_stateless_run(
    body: RunCreate, res: ResourcesDep, principal: WaitingCaller, namespace: Namespaces = None
) -> Response:
    """The same, and streams it."""
    return _stream(res, await begin(res, principal, body, None), body.stream_mode, namespaces=namespace)


@router.post("/runs/wait", response_class=Response)
async def wait_for_stateless_run(body: RunCreate, res: ResourcesDep, principal: WaitingCaller) -> Response:
    """The same, and waits for the state that it ends with."""
    return _wait(res, principal, await begin(res, principal, body, None, record=()))


@router.post("/runs/batch")
async def create_batch(body: list[RunOfBatch], res: ResourcesDep, principal: Caller) -> Response:
    """Begins several runs, each on a thread of its own. The first that is refused ends it; `begun` then names those before."""
    if len(body) > MAX_BATCH:
        raise InvalidRequest(f"body: expected at most {MAX_BATCH} runs", field="body")
    for each in body:
        await assistant_named(res, principal, each.assistant_id)
    runs: list[Run] = []
    for each in body:
        try:
            runs.append(await begin(res, principal, each, None, record=ALL_MODES))
        except SlipwayError as error:
            error.extra["begun"] = ",".join(str(run.id) for run in runs)
            raise
    return _json([run_view(run) for run in runs])


# What has begun


@router.get("/threads/{thread_id}/runs")
async def list_runs(
    thread_id: UUID,
    res: ResourcesDep,
    principal: Caller,
    limit: Annotated[Limit, Query()] = 10,
    offset: Annotated[Offset, Query()] = 0,
    status: Annotated[RunStatusName | None, Query()] = None,
    select: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """The thread's runs, the newest first."""
    thread = await res.threads.get(principal, thread_id)
    runs = await res.thread_runs.of_thread(thread.thread, status=status, limit=limit + 1, offset=offset)
    return page([run_view(run) for run in runs], limit, offset, select)


@router.get("/threads/{thread_id}/runs/{run_id}")
async def get_run(thread_id: UUID, run_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """A run as it stands."""
    return _json(run_view(await _run(res, principal, thread_id, run_id)))


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204)
async def delete_run(thread_id: UUID, run_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """Deletes a run that has ended; what it did to the state stays."""
    await res.thread_runs.delete(await _run(res, principal, thread_id, run_id))
    return Response(status_code=204)


@router.get("/threads/{thread_id}/runs/{run_id}/join", response_class=Response)
async def join_run(
    thread_id: UUID,
    run_id: UUID,
    res: ResourcesDep,
    principal: WaitingCaller,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
) -> Response:
    """Waits for the state that it ends with."""
    return _wait(res, principal, await _run(res, principal, thread_id, run_id), cancels=cancel_on_disconnect)


@router.get("/threads/{thread_id}/runs/{run_id}/stream", responses=STREAM, response_class=Response)
async def join_stream(
    thread_id: UUID,
    run_id: UUID,
    res: ResourcesDep,
    principal: WaitingCaller,
    stream_mode: Annotated[list[StreamMode | Literal[""]] | None, Query()] = None,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    checkpoint_id: Annotated[str | None, Query()] = None,  # noqa: ARG001  # useStream says it; a server may ignore it
    namespace: Namespaces = None,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
) -> Response:
    """Its stream from the beginning, or after the event that was seen last."""
    run = await _run(res, principal, thread_id, run_id)
    modes = [mode for mode in stream_mode or () if mode]
    after = _position(last_event_id, run_id)
    return _stream(res, run, modes or None, after=after, cancels=cancel_on_disconnect, namespaces=namespace)


@router.post("/threads/{thread_id}/runs/{run_id}/cancel")
async def cancel_run(
    thread_id: UUID,
    run_id: UUID,
    res: ResourcesDep,
    principal: WaitingCaller,
    wait: Annotated[bool, Query()] = False,
    action: Action = "interrupt",
) -> Response:
    """Stops it; `rollback` undoes what it did, too, and deletes it."""
    run = await _run(res, principal, thread_id, run_id)
    if run.status == "finished":
        raise NotFound("No matching runs to cancel: the run has ended")
    headers = {"Content-Location": _path(run), "Location": f"{_path(run)}/join"}
    await res.thread_runs.cancel(principal, [run], wait=wait, undo=action == "rollback")
    return _json({}, headers=headers) if wait else Response(status_code=202, headers=headers)


@router.post("/runs/cancel", status_code=204)
async def cancel_runs(body: CancelMany, res: ResourcesDep, principal: Caller, action: Action = "interrupt") -> Response:
    """Stops runs of a thread by their ids, or all of the caller's by their status."""
    if (body.thread_id is None) == (body.status is None) or (body.thread_id is None) != (body.run_ids is None):
        raise InvalidRequest("status: expected it, or else thread_id with run_ids", field="status")
    if body.thread_id is not None:
        runs = [await _run(res, principal, body.thread_id, each) for each in body.run_ids or ()]
        going = [run for run in runs if run.status != "finished"]
    else:
        going = await res.thread_runs.going(principal, status=body.status or "all")
    if not going:
        raise NotFound("No matching runs to cancel")
    await res.thread_runs.cancel(principal, going, wait=False, undo=action == "rollback")
    return Response(status_code=204)


async def begin(
    res: Resources, principal: Principal, body: RunCreate, thread_id: UUID | None, *, record: tuple[StreamMode, ...] | None = None
) -> Run:
    """A new run. `record`: modes that are told of when none is named. Raises whatever ThreadRuns.start does."""
    assistant = await assistant_named(res, principal, body.assistant_id)
    schema = schema_of(res, assistant)
    thread = await _thread(res, principal, body, thread_id) if thread_id else None
    name = thread.name if thread else str(thread_id or uuid4())
    asked = asked_of(body, schema=schema, record=record, thread=thread, webhook_hosts=split_names(res.settings.webhook_hosts))
    ephemeral = thread_id is None and body.on_completion != "keep"
    how = OnThread(
        strategy=body.multitask_strategy or "enqueue",
        metadata=assistant.ids,
        ephemeral=ephemeral,
        delay_seconds=body.after_seconds or 0.0,
        strict_resume=bool(body.strict_resume),
    )
    written = [body.input, body.command.model_dump() if body.command else None]
    given = run_input(assistant, asked, schema)
    run = await res.thread_runs.start(
        principal, name, given, graph=assistant.graph, how=how, listed=not ephemeral, written=written
    )
    return run_in_log(run)


async def _thread(res: Resources, principal: Principal, body: RunCreate, thread_id: UUID) -> NamedThread | None:
    """None when there is none yet, and the run is to make it. Raises NotFound."""
    thread = await res.threads.named(principal, thread_id)
    if thread is None and body.if_not_exists != "create":
        raise NotFound("Thread or assistant not found.")
    return thread


async def _run(res: Resources, principal: Principal, thread_id: UUID, run_id: UUID) -> Run:
    """Raises NotFound, also for a run of another thread."""
    run = await res.runs.get_without_answer(principal, run_id)
    if not _is_of(run, thread_id):
        raise NotFound("no such run")
    return run_in_log(run)


def _is_of(run: Run, thread_id: UUID) -> bool:
    return run.session_id in {str(thread_id), thread_id.hex}


# Streams and waits


def _stream(
    res: Resources,
    run: Run,
    modes: list[StreamMode] | None,
    *,
    after: Position = START,
    cancels: bool = False,
    namespaces: list[str] | None,
) -> Response:
    wanted = [str(mode) for mode in modes or run.input.get("record") or ["values"]]
    idle = min(HEARTBEAT_SECONDS, res.settings.heartbeat_seconds)
    chunks = never_silent(_frames(res, run, wanted, after, namespaces, idle), HEARTBEAT, idle)
    response = StreamResponse(chunks, res.streams, goodbye=b"", on_leave=_on_leave(res, run, cancels=cancels))
    query = urlencode([("namespace", name) for name in namespaces or ()])
    return _located(response, run, f"stream?{query}" if query else "stream")


async def _frames(
    res: Resources, run: Run, modes: list[str], after: Position, namespaces: list[str] | None, idle: float
) -> AsyncIterator[bytes]:
    assistant = {"graph_id": run.graph, "assistant_id": assistant_of(run)}
    thread_id = UUID(run.session_id)
    encoder = Encoder(run, thread_id, assistant, modes, res.thread_runs, after, namespaces)
    begin = after if MESSAGE_MODES.isdisjoint(modes) else START
    async for batch in res.runs.follow(run.id, begin, idle=idle):
        yield b"".join([frame async for frame in encoder.encode(batch)])


def _wait(res: Resources, principal: Principal, run: Run, *, cancels: bool = False) -> Response:
    chunks = _outcome(res, principal, run)
    response = StreamResponse(chunks, res.streams, goodbye=None, on_leave=_on_leave(res, run, cancels=cancels))
    response.headers["content-type"] = "application/json"
    return _located(response, run, "join")


async def _outcome(res: Resources, principal: Principal, run: Run) -> AsyncIterator[bytes]:
    """White space while the run goes on, then the state that it has ended with."""
    waiting = asyncio.ensure_future(res.runs.wait(principal, run.id))
    try:
        while not (await asyncio.wait([waiting], timeout=HEARTBEAT_SECONDS))[0]:
            yield STILL_THERE
        waiting.result()
    finally:
        waiting.cancel()
    async with res.rendering:
        ended = await res.runs.ended(principal, run.id)
        yield state_bytes(outcome_view(ended, await res.threads.values_after(ended)))


def _on_leave(res: Resources, run: Run, *, cancels: bool) -> Callable[[], Awaitable[None]] | None:
    """What becomes of the run when its client has gone."""
    if cancels or run.input.get("wire", {}).get("on_disconnect") == "cancel":
        return partial(res.thread_runs.leave, run, GRACE_SECONDS)
    return None


def _located(response: Response, run: Run, suffix: str) -> Response:
    response.headers["Content-Location"] = _path(run)
    response.headers["Location"] = f"{_path(run)}/{suffix}"
    return response


def _path(run: Run) -> str:
    return f"/threads/{UUID(run.session_id)}/runs/{run.id}"


def _position(last: str, run_id: UUID) -> Position:
    if last in {"", "-1"}:
        return START
    seen = EventId.parse(last, field="Last-Event-ID")
    if seen.run_id != run_id:
        raise InvalidRequest("Last-Event-ID: expected the id of an event of this run", field="Last-Event-ID")
    return seen.position


def _json(value: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(state_bytes(value), headers=headers, media_type="application/json")
