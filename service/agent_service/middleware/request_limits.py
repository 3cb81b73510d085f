"""Refuses what is too large or malformed before any work is done."""

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.errors import InvalidRequest, TooLarge
from agent_service.middleware.problem_details import problem_response

MAX_HEADER_BYTES = 32_768
"""Names and values together; uvicorn's httptools parser has no limit of its own. A JWT rarely passes 8 KiB."""


class LimitsMiddleware:
    """Refuses by the head of a request, and stops reading a body beyond `max_body_bytes`."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            status, code, field, detail = refusal
            response = problem_response(
                status, code, f"{field}: {detail}", path=scope["path"], field=field, headers={"Connection": "close"}
            )
            await response(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise TooLarge(f"body: {self._body_limit}", field="body")
            return message

        await self._app(scope, limited, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str, str] | None:
        """Status, code, field and what was expected, if the head of the request is reason enough."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, "headers_too_large", "headers", f"expected at most {MAX_HEADER_BYTES} bytes"
        if _content_length(scope) > self._max_body_bytes:
            return 413, TooLarge.code, "body", self._body_limit
        if not _is_utf8(scope["query_string"]):
            return InvalidRequest.status, InvalidRequest.code, "query", "expected percent-encoded UTF-8"
        return None

    @property
    def _body_limit(self) -> str:
        return f"expected at most {self._max_body_bytes} bytes"


def _content_length(scope: Scope) -> int:
    value = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
    return int(value) if value.isdigit() else 0


def _is_utf8(query: bytes) -> bool:
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        return False
    return True
