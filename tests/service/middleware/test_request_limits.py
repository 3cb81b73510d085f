"""What is refused by its head alone, and bodies that lie about their size."""

from typing import Any

import orjson
import pytest
from starlette.types import Message, Receive, Scope, Send

from agent_service.errors import TooLarge
from agent_service.middleware.request_limits import MAX_HEADER_BYTES, LimitsMiddleware

LIMIT = 100


async def read_all(_: Scope, receive: Receive, send: Send) -> None:
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def call(*chunks: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), query: bytes = b"") -> list[Any]:
    sent: list[Message] = []
    waiting = list(chunks)

    async def receive() -> Message:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/chat", "headers": list(headers), "query_string": query}
    await LimitsMiddleware(read_all, max_body_bytes=LIMIT)(scope, receive, send)
    return [sent[0]["status"], sent[1]["body"]]


@pytest.mark.parametrize("length", [b"100", b"1", b"", b"-5", b"abc", b"\xb2"])
async def test_a_body_up_to_the_limit_passes_whatever_its_length_header_says(length: bytes) -> None:
    assert await call(b"x" * 50, b"x" * 50, headers=((b"content-length", length),)) == [200, b"100"]


async def test_a_body_that_says_to_be_larger_is_refused_unread() -> None:
    status, body = await call(headers=((b"content-length", b"101"),))
    assert (status, orjson.loads(body)["code"], orjson.loads(body)["field"]) == (413, "too_large", "body")


async def test_a_body_that_is_larger_than_it_says_is_cut_off() -> None:
    with pytest.raises(TooLarge):
        await call(b"x" * 60, b"x" * 60, headers=((b"content-length", b"10"),))


async def test_headers_are_counted_together() -> None:
    half = (b"x" * 10, b"y" * (MAX_HEADER_BYTES // 2 - 10))
    assert (await call(b"", headers=(half, half)))[0] == 200
    assert (await call(b"", headers=(half, half, (b"z", b""))))[0] == 431


@pytest.mark.parametrize(
    ("query", "status"), [(b"q=%C3%BC", 200), (b"q=\xc3\xbc", 200), (b"q=%", 200), (b"q=%FC", 422), (b"q=\xfc", 422)]
)
async def test_a_query_must_be_utf8(query: bytes, status: int) -> None:
    assert (await call(b"", query=query))[0] == status
