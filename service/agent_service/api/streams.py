"""A run as a stream: where to begin, and the response."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Query, Request
from pydantic import Field
from starlette.responses import Response

from agent_service.api.deps import run_in_log
from agent_service.api.openapi import event_stream
from agent_service.api.sse import RECONNECT, StreamResponse, disconnected, encode_stream
from agent_service.errors import ClientGone, Forbidden, InvalidRequest, ServerLeaving
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.events import START, EventId, Position
from agent_service.runs.model import Run

EVENT_ID_PATTERN = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]{1,9}-[0-9]{1,9}$"

_EventIdText = Annotated[str, Field(json_schema_extra={"pattern": EVENT_ID_PATTERN})]
LastEventId = Annotated[_EventIdText, Header(alias="Last-Event-ID", description="Sent by EventSource when it reconnects.")]
LastEventIdQuery = Annotated[_EventIdText, Query(description="The same, for a new EventSource object.")]

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: unnamed ones are the answer, the last is `[DONE]`.",
        "content": event_stream("Text of the answer; JSON when `event` names another kind."),
    },
    204: {"description": "Nothing is left to come, as after any id past the last event; an EventSource stops."},
}


def last_event(header: str, query: str) -> EventId | None:
    if header:
        return EventId.parse(header, field="Last-Event-ID")
    return EventId.parse(query, field="last_event_id") if query else None


async def stream_run(res: Resources, principal: Principal, run_id: UUID, last: EventId | None = None) -> Response:
    """The run's events after the last one seen; 204 when there are none left, so that EventSource stops."""
    if principal.grant and principal.grant.run_id != run_id:
        raise Forbidden("the stream token is for another run")
    run = run_in_log(await res.runs.get_without_answer(principal, run_id))
    if last and last.run_id != run_id:
        raise InvalidRequest("Last-Event-ID: expected the id of an event of this run", field="Last-Event-ID")
    after = last.position if last else START
    if last:
        result = await _resume_result(res, run, after)
        res.metrics.stream_resumes.labels(result).inc()
        if result == "finished":
            return Response(status_code=204)
    return open_stream(res, run_id, after)


def open_stream(res: Resources, run_id: UUID, after: Position = START) -> StreamResponse:
    chunks = encode_stream(run_id, res.runs.follow(run_id, after, idle=res.settings.heartbeat_seconds))

    return StreamResponse(chunks, res.streams, goodbye=RECONNECT, on_leave=partial(cancel_unwatched, res, run_id))


async def cancel_unwatched(res: Resources, run_id: UUID) -> None:
    """What ON_DISCONNECT says becomes of a run whose last watcher has gone."""
    if res.settings.on_disconnect == "cancel":
        await res.runs.cancel_unwatched(run_id)


async def until_ended(
    res: Resources, principal: Principal, run: Run, request: Request, on_leave: Callable[[], Awaitable[None]] | None
) -> None:
    """Waits for the run's end.

    Args:
        on_leave: called when the client has gone first.

    Raises:
        ClientGone: it has.
        ServerLeaving: this process goes away first; the run goes on at a peer.
    """
    if await res.streams.unless(disconnected(request.receive), res.runs.wait(principal, run.id)):
        return
    if res.streams.closing.done():
        raise ServerLeaving(f"the server is going away, the run goes on: GET /runs/{run.id}", run_id=str(run.id))
    if on_leave:
        await on_leave()
    raise ClientGone("the client has gone")


async def _resume_result(res: Resources, run: Run, after: Position) -> str:
    if res.runs.is_live(run.id):
        return "memory"
    if await res.runs.finished(run.id, after):
        return "finished"
    return "gap" if run.events_pruned else "log"
