"""A run as server-sent events: the wire, the response that carries it, and where a reader begins."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Query, Request
from pydantic import Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_service.api.deps import run_in_log
from agent_service.api.json_body import json_line
from agent_service.api.openapi import event_stream
from agent_service.errors import ClientGone, Forbidden, InvalidRequest, ServerLeaving
from agent_service.middleware.after_route import AFTER_ROUTE, AfterRoute
from agent_service.open_streams import Streams
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.events import HIDDEN_KINDS, START, Event, EventId, Position
from agent_service.runs.run_types import Run
from agent_service.server.protocol import FLUSHED

HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

CHUNK_BYTES = 8_192
"""Of a stream that are given to the server at once; what a reader does not take waits here in events, not in bytes."""

HEARTBEAT = b": heartbeat\n\n"

RETRY_MILLISECONDS = 500
"""What an EventSource waits before it reconnects; browsers' own 3 s would show in a rollout."""

RECONNECT = f'event: reconnect\ndata: {{"retry_ms":{RETRY_MILLISECONDS}}}\n\n'.encode()
"""The server is going away: come back now, with the last event's id."""


def encode(run_id: str, event: Event) -> bytes:
    """One event of a run. Text is unnamed; a newline in it becomes a second `data:` line, as the standard says."""
    attempt, seq, kind, _, payload = event
    event_id = f"id: {run_id}-{attempt}-{seq}\n"
    if kind == "text":
        return f"{event_id}data: {payload.replace(chr(10), chr(10) + 'data: ')}\n\n".encode()
    if kind in HIDDEN_KINDS:
        return b""
    if kind == "end":
        return f"{event_id}data: [DONE]\n\n".encode()
    if kind == "run":
        event_id = f"retry: {RETRY_MILLISECONDS}\n{event_id}"
    return f"{event_id}event: {kind}\ndata: ".encode() + json_line(payload) + b"\n\n"


async def encode_stream(run_id: UUID, events: AsyncGenerator[list[Event], None]) -> AsyncIterator[bytes]:
    """One chunk of bytes for all the events that wait, or several where much waits."""
    of_run = str(run_id)
    async with aclosing(events) as batches:
        async for batch in batches:
            for chunk in in_chunks(encode(of_run, event) for event in batch) if batch else (HEARTBEAT,):
                yield chunk


def in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces joined into chunks of about CHUNK_BYTES."""
    chunk: list[bytes] = []
    size = 0
    for piece in pieces:
        chunk.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)


class StreamResponse(Response):
    """Sends chunks as they come, and stops as soon as the client has gone. No framework object per token.

    Args:
        goodbye: sent when the process closes its streams before the last chunk; None: the connection is cut, so that nobody
            takes what was sent for the whole.
        on_leave: called when the client has gone before the last chunk.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        streams: Streams,
        *,
        goodbye: bytes | None,
        on_leave: Callable[[], Awaitable[None]] | None = None,
        status_code: int = 200,  # FastAPI reads the default when it writes the OpenAPI document
    ) -> None:
        super().__init__(None, status_code, dict(HEADERS))
        del self.headers["content-length"]
        self._answer = _Answer(self, chunks, streams, goodbye, on_leave)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        self._answer.flushed = scope.get("extensions", {}).get(FLUSHED)
        after: AfterRoute = scope[AFTER_ROUTE]
        after.send_answer = self._answer.send


@dataclass(slots=True)
class _Answer:
    """What a StreamResponse sends: the head goes out with the first chunk, the end with the last."""

    head: Response
    chunks: AsyncIterator[bytes]
    streams: Streams
    goodbye: bytes | None
    on_leave: Callable[[], Awaitable[None]] | None
    flushed: Mapping[str, Callable[[], Awaitable[None]]] | None = None
    begun: bool = False

    async def send(self, receive: Receive, send: Send) -> None:
        with self.streams.track():
            if not await self.streams.cut_short(disconnected(receive), self._send_chunks(send)):
                await self._begin(send)
                if not self.streams.closing.done():
                    await self._leave()
                elif self.goodbye is None:
                    return
                else:
                    await _write(send, self.goodbye)
                await _end(send)
            if self.flushed:
                await self.flushed["wait"]()  # a stream is open until its client has all of it, or is gone

    async def _send_chunks(self, send: Send) -> bool:
        """In a task of its own: in that of the request each token would go through all of the middleware's frames."""
        await self._begin(send)
        try:
            async for chunk in self.chunks:
                if chunk:
                    await _write(send, chunk)
        finally:  # before `on_leave` asks whether anybody watches the run
            if isinstance(self.chunks, AsyncGenerator):
                await self.chunks.aclose()
        await _end(send)
        return True

    async def _begin(self, send: Send) -> None:
        if not self.begun:
            await send({"type": "http.response.start", "status": self.head.status_code, "headers": self.head.raw_headers})
            self.begun = True  # not if it was cancelled while it waited for an earlier answer to be taken

    async def _leave(self) -> None:
        if self.on_leave:
            await self.on_leave()


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def disconnected(receive: Receive) -> None:
    """Waits until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


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
    """The event that a client has seen last, by its header or else by the query; None for neither. Raises InvalidRequest."""
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
    """The response that streams a run's events after a position."""
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
