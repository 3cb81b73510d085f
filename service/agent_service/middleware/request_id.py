"""A request id on every answer and log line of a request; headers that every answer has, and those that code below has for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.caller_limits import RESPONSE_HEADERS
from agent_service.server.refusals import PRIVATE, SAFE

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

SENT = "slipway.sent"
"""The request's Sent in its scope, for the middleware within: each that looked for itself would be a call more for each token."""


@dataclass(slots=True)
class Sent:
    """What is sent of an answer."""

    status: int | None = None
    """None before its head is."""
    streams: bool = False

    def status_or_error(self) -> int:
        """Of an answer that is through: without a head it was none."""
        return self.status or HTTPStatus.INTERNAL_SERVER_ERROR.value


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

        sent = scope[SENT] = Sent()
        told: dict[str, str] = {}
        RESPONSE_HEADERS.set(told)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in told.items()]
                said = {name.lower(): value for name, value in message["headers"]}
                media_type = said.get(b"content-type", b"")
                sent.status, sent.streams = message["status"], media_type.startswith(b"text/event-stream")
                unsaid = [(name, value) for name, value in _safe(media_type).items() if name not in said]
                message["headers"] = [*message["headers"], *unsaid, (b"x-request-id", request_id), *more]
            await send(message)

        structlog.contextvars.clear_contextvars()  # of the request before it, when one has waited behind another
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        await self._app(scope, receive, send_with_id)


def _safe(media_type: bytes) -> Mapping[bytes, bytes]:
    """What each answer says of itself; an answer in JSON also that nobody is to keep it."""
    return SAFE | PRIVATE if media_type.startswith((b"application/json", b"application/problem+json")) else SAFE
