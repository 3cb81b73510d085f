"""What an app raises, and what its caller sees."""

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from agent_service.middleware.after_route import AFTER_ROUTE, AfterRouteMiddleware
from agent_service.middleware.request_id import ContextMiddleware
from agent_service.middleware.unexpected_errors import ErrorMiddleware

SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/v1/x", "headers": []}


async def nothing() -> Message:
    return {"type": "http.disconnect"}


async def call(app: Any) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await ContextMiddleware(ErrorMiddleware(app))(dict(SCOPE), nothing, send)
    return sent


async def test_an_exception_before_the_answer_is_a_500_without_its_text() -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise RuntimeError("secret")

    start, body = await call(app)
    assert start["status"] == 500
    assert b"internal" in body["body"]
    assert b"secret" not in body["body"]


async def test_an_exception_within_the_answer_ends_it_there() -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("secret")

    sent = await call(app)
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]


async def test_a_process_that_stops_is_no_error_of_the_request() -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await call(app)


async def test_one_in_the_rest_of_an_answer_ends_it_there() -> None:
    async def rest(_: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("secret")

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope[AFTER_ROUTE].send_answer = rest

    sent = await call(AfterRouteMiddleware(app))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
