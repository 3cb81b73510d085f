"""The SSE wire: a view of the neutral events, and the response that carries it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_service.api.json_body import json_line
from agent_service.runs.events import Event
from agent_service.server.protocol import FLUSHED
from agent_service.streams import Streams

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
    if kind == "message":
        return b""
    if kind == "end":
        return f"{event_id}data: [DONE]\n\n".encode()
    if kind == "run":
        event_id = f"retry: {RETRY_MILLISECONDS}\n{event_id}"
    return f"{event_id}event: {kind}\ndata: ".encode() + json_line(payload) + b"\n\n"


async def encode_stream(run_id: UUID, batches: AsyncIterator[list[Event]]) -> AsyncIterator[bytes]:
    """One chunk of bytes for all the events that wait, or several where much waits."""
    of_run = str(run_id)
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
        goodbye: sent when the process closes its streams before the last chunk.
        on_leave: called when the client has gone before the last chunk.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        streams: Streams,
        *,
        goodbye: bytes,
        on_leave: Callable[[], Awaitable[None]] | None = None,
        status_code: int = 200,  # FastAPI reads the default when it writes the OpenAPI document
    ) -> None:
        super().__init__(None, status_code, dict(HEADERS))
        del self.headers["content-length"]
        self._chunks = chunks
        self._streams = streams
        self._goodbye = goodbye
        self._on_leave = on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.track():
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            sending = asyncio.create_task(self._send(send), name="stream")
            leaving = asyncio.create_task(disconnected(receive), name="stream-disconnect")
            closing = self._streams.closing
            try:
                done, _ = await asyncio.wait([sending, leaving, closing], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, leaving):
                    task.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)
            if sending in done:
                sending.result()
            elif closing in done:
                await _write(send, self._goodbye)
            elif self._on_leave:
                await self._on_leave()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            if flushed := scope.get("extensions", {}).get(FLUSHED):
                await flushed["wait"]()  # a stream is open until its client has all of it, or is gone

    async def _send(self, send: Send) -> None:
        async for chunk in self._chunks:
            if chunk:
                await _write(send, chunk)


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def disconnected(receive: Receive) -> None:
    """Waits until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
