"""A client that does not stream leaves before its answer: https://github.com/BerriAI/litellm/issues/37140.

There all tokens are produced, and paid for.
"""

import asyncio

import pytest

from tests.attack.rawhttp import Push, connect
from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script

V1 = ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "hi"}]}')
MORE_THAN_BUFFERS = 12_000_000
"""Bytes of an answer, when a reader takes none: the kernel's buffers of a connection have 4 MB at most."""

CHAT = ("/chat", b'{"question": "hi"}')


@pytest.mark.parametrize(
    ("call", "headers", "rule", "outcome"),
    [
        (V1, b"", "continue", "cancelled"),
        (V1, b"", "cancel", "cancelled"),
        (V1, b"Idempotency-Key: k\r\n", "cancel", "completed"),
        (CHAT, b"", "cancel", "cancelled"),
        (CHAT, b"", "continue", "completed"),
        (CHAT, b"Idempotency-Key: k\r\n", "cancel", "completed"),
    ],
    ids=["v1", "v1, cancel", "v1 with a key", "chat, cancel", "chat, continue", "chat with a key"],
)
async def test_a_run_whose_client_has_left_is_cancelled_unless_it_may_come_back(
    database_url: str, call: tuple[str, bytes], headers: bytes, rule: str, outcome: str
) -> None:
    path, body = call
    script = Script(token_count=40, tokens_per_second=20)
    async with FakeModel(script) as model, plain_service(database_url, model, ON_DISCONNECT=rule) as service:
        raw = await connect(int(service.url.rpartition(":")[2]))
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % path.encode()
        await Push(raw)([head + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body])
        async with asyncio.timeout(20):
            while not await service.metric("agent_runs_in_flight"):
                await asyncio.sleep(0.01)
            raw.close()
            while await service.metric("agent_runs_in_flight"):
                await asyncio.sleep(0.01)
        assert await service.metric("agent_runs_total", outcome=outcome) == 1
        assert await service.metric("agent_streams_open") == 0


async def test_a_client_that_has_stopped_reading_and_then_leaves_watches_nothing_any_more(database_url: str) -> None:
    """The stream stands in the midst of a write then: whoever asked only whether a stream is open found its own."""
    body = b'{"question": "hi"}'
    script = Script(tokens=["x" * 20_000] * 2_000, tokens_per_second=200)
    async with FakeModel(script) as model, plain_service(database_url, model, ON_DISCONNECT="cancel") as service:
        raw = await connect(int(service.url.rpartition(":")[2]), receive_buffer=4_096)
        head = b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await Push(raw)([head + b"Content-Length: %d\r\n\r\n" % len(body) + body])
        async with asyncio.timeout(30):
            while not any(len(run.said.events) * 4_096 > MORE_THAN_BUFFERS for run in service.resources.runs._live):
                await asyncio.sleep(0.01)
            raw.close()
            while await service.metric("agent_runs_in_flight"):
                await asyncio.sleep(0.01)
        assert await service.metric("agent_runs_total", outcome="cancelled") == 1
