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
