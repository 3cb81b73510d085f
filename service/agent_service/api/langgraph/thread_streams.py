"""One stream of all runs of a thread, in version 1 of the protocol: `threads.join_stream` of the SDKs."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from agent_service.api.deps import ResourcesDep, WaitingCaller
from agent_service.api.json_body import JsonRoute
from agent_service.api.langgraph.encoder import HEARTBEAT, HEARTBEAT_SECONDS, Encoder, Frames, never_silent
from agent_service.api.openapi import PROBLEMS, event_stream
from agent_service.api.sse import StreamResponse
from agent_service.errors import NotFound
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.events import START, EventId, Position
from agent_service.runs.run_types import Run
from agent_service.runs.run_view import assistant_of
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_runs import Begin
from agent_service.runs.thread_types import NamedThread

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

ThreadMode = Literal["run_modes", "lifecycle", "state_update"]

STATE_MODES = ("values", "updates")
"""Of `state_update`."""


@router.get(
    "/threads/{thread_id}/stream",
    response_class=Response,
    responses={
        200: {"description": "Server-sent events without an end.", "content": event_stream("JSON, as of a run's stream.")}
    },
)
async def join_thread_stream(
    thread_id: UUID,
    res: ResourcesDep,
    principal: WaitingCaller,
    stream_mode: Annotated[list[ThreadMode] | None, Query()] = None,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
) -> Response:
    """Events of the run that is going, and of all that follow; after `Last-Event-ID` what came since, with `-1` everything.

    `run_modes`: in the modes that each run was begun with; `lifecycle`: begin and end; `state_update`: values and updates.
    Behind each run comes `metadata` with `"status": "run_done"`.
    """
    thread = await res.threads.named(principal, thread_id)
    if thread is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    wanted = stream_mode or ["run_modes"]
    begin, seen = await _begin(res, principal, thread, last_event_id)
    # Cut when this process leaves: the clients then come back to Location with the last id, as after any fault.
    idle = min(HEARTBEAT_SECONDS, res.settings.heartbeat_seconds)
    frames = _frames(res, principal, thread_id, wanted, begin, seen, idle)
    response = StreamResponse(never_silent(frames, HEARTBEAT, idle), res.streams, goodbye=None)
    query = urlencode([("stream_mode", mode) for mode in wanted])
    response.headers["Location"] = f"/threads/{thread_id}/stream?{query}"
    return response


async def _begin(res: Resources, principal: Principal, thread: NamedThread, last: str) -> tuple[Begin, Position]:
    """Where the reader begins, and what it has seen of that run. Raises InvalidRequest, NotFound."""
    if last == "":
        return await res.thread_runs.now_on(principal, thread.id), START
    if last == "-1":
        return Begin(), START
    seen = EventId.parse(last, field="Last-Event-ID")
    run = await res.runs.get_without_answer(principal, seen.run_id)
    if run.session_id != thread.name:
        raise NotFound("no such run")
    return Begin(run), seen.position


async def _frames(
    res: Resources, principal: Principal, thread_id: UUID, wanted: list[ThreadMode], begin: Begin, seen: Position, idle: float
) -> AsyncIterator[bytes]:
    encoder: Encoder | None = None
    current: UUID | None = None
    async for run, batch in res.thread_runs.follow_thread(principal, thread_id, begin, idle=idle):
        if run is not None and run.id != current:
            assistant = {"graph_id": run.graph, "assistant_id": assistant_of(run)}
            after = seen if begin.run and run.id == begin.run.id else START
            encoder = RunOfThread(run, thread_id, assistant, _modes(run, wanted), res.thread_runs, after)
            current = run.id
        yield b"".join([frame async for frame in encoder.encode(batch)]) if batch and encoder else b""


def _modes(run: Run, wanted: list[ThreadMode]) -> list[str]:
    recorded = run.input.get("record") or []
    if "run_modes" in wanted:
        return recorded
    return [mode for mode in recorded if mode in STATE_MODES] if "state_update" in wanted else []


class RunOfThread(Encoder):
    """The events of one of its runs. Its end is not the stream's."""

    def _end_of_run(self) -> Frames:
        return [("metadata", state_bytes({"status": "run_done", "run_id": str(self._run.id)}))]
