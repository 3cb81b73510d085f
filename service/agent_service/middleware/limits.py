"""Refuses what is too large before any work is done."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.errors import TooLarge

MAX_HEADER_BYTES = 32_768
"""Names and values together; uvicorn's httptools parser has no limit of its own. A JWT rarely passes 8 KiB."""


class LimitsMiddleware:
    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            await _refuse(send, 431, "headers_too_large", f"headers: expected at most {MAX_HEADER_BYTES} bytes")
            return
        detail = f"body: expected at most {self._max_body_bytes} bytes"
        if _content_length(scope) > self._max_body_bytes:
            await _refuse(send, 413, TooLarge.code, detail)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise TooLarge(detail, field="body")
            return message

        await self._app(scope, limited, send)


def _content_length(scope: Scope) -> int:
    value = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
    return int(value) if value.isdigit() else 0


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    title = code.replace("_", " ")
    body = f'{{"type":"about:blank","title":"{title}","status":{status},"code":"{code}","detail":"{detail}","retryable":false}}'
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
