"""The SSE wire: a view of the neutral events, and the response that carries it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from uuid import UUID

import orjson
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_service.runs.model import Event

HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

HEARTBEAT = b": heartbeat\n\n"


def encode(run_id: UUID, event: Event) -> bytes:
    """One event. Text is unnamed; a newline in it becomes a second `data:` line, as the standard says."""
    attempt, seq, kind, _, payload = event
    event_id = f"id: {run_id}-{attempt}-{seq}\n"
    if kind == "text":
        return f"{event_id}data: {payload.replace(chr(10), chr(10) + 'data: ')}\n\n".encode()
    if kind == "end":
        return f"{event_id}data: [DONE]\n\n".encode()
    return f"{event_id}event: {kind}\ndata: ".encode() + orjson.dumps(payload, default=str) + b"\n\n"


async def encode_stream(run_id: UUID, batches: AsyncIterator[list[Event]]) -> AsyncIterator[bytes]:
    """One chunk of bytes for all the events that wait."""
    async for batch in batches:
        yield b"".join([encode(run_id, event) for event in batch]) if batch else HEARTBEAT


class StreamResponse(Response):
    """Sends chunks as they come, and stops as soon as the client has gone. No framework object per token."""

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        on_open: Callable[[], None],
        on_close: Callable[[], None],
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__(None, 200, dict(HEADERS), background=background)
        del self.headers["content-length"]
        self._chunks = chunks
        self._on_open = on_open
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        self._on_open()
        sending = asyncio.create_task(self._send(send), name="stream")
        leaving = asyncio.create_task(_disconnected(receive), name="stream-disconnect")
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._on_close()
        if not sending.cancelled() and (error := sending.exception()):
            raise error
        if self.background:
            await self.background()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
