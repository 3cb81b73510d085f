"""A request id on every answer and log line of a request; headers that every answer has, and those that code below has for it."""

import re
from collections.abc import Iterable
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.caller_limits import RESPONSE_HEADERS
from agent_service.server.refusals import PRIVATE, SAFE

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class ContextMiddleware:
    """Takes the caller's `X-Request-ID` if it is a plain one, else makes one; sends it back and binds it to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex.encode()

        told: dict[str, str] = {}
        RESPONSE_HEADERS.set(told)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in told.items()]
                said = message["headers"]
                message["headers"] = [*said, *_unsaid(said), (b"x-request-id", request_id), *more]
            await send(message)

        structlog.contextvars.clear_contextvars()  # of the request before it, when one has waited behind another
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        await self._app(scope, receive, send_with_id)


def _unsaid(said: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower(): value for name, value in said}
    safe = (
        SAFE | PRIVATE if names.get(b"content-type", b"").startswith((b"application/json", b"application/problem+json")) else SAFE
    )
    return [(name, value) for name, value in safe.items() if name not in names]
