"""The attacker is the model's endpoint, or somebody who answers in its place: nothing that it sends ends a replica."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from agent_service.agents import completion_stream, endpoint, endpoint_errors
from agent_service.errors import ModelRejected, ModelUnavailable
from tests.support.model_client import Client, open_client

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\r\n"
TOKEN = b'data: {"choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'

SOCKET_BYTES = 16 * 2**20
"""What both kernels' buffers and aiohttp's may hold beside what was read."""


class Endless:
    """Answers every request with `head` and then with pieces for as long as somebody takes them; counts the bytes."""

    def __init__(self, head: bytes, pieces: Iterator[bytes]) -> None:
        self.url = ""
        self.sent = 0
        self._head = head
        self._pieces = pieces

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._head)
        try:
            for piece in self._pieces:
                writer.write(piece)
                self.sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)  # drain alone fills the sockets before the client reads: 10 s of single bytes
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def client_of(server: Endless) -> AsyncIterator[Client]:
    async with server.serving(), open_client(server, model_max_retries=0) as client:
        yield client


async def read_all(client: Client) -> None:
    async with await client.stream() as stream:
        async for _ in stream:
            pass


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("data without an end", b"data: " + b"x" * 65_536),
        ("one byte a read", b"x"),
        ("carriage returns that end nothing", b"data: x\r" * 1_000),
        ("a comment without an end", b":" + b" " * 65_536),
    ],
)
async def test_an_event_without_an_end_is_given_up_at_its_limit(name: str, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        completion_stream, "MAX_EVENT_BYTES", limit := 2**20 if len(piece) > 1 else 5_000
    )  # each write is a turn of the loop
    server = Endless(STREAM, repeat(piece))
    async with client_of(server) as client:
        with pytest.raises(ModelUnavailable, match=f"an event of more than {limit} bytes"):
            await read_all(client)
    print(f"{name}: {server.sent} bytes sent, limit {limit}")
    assert server.sent < limit + SOCKET_BYTES


async def test_an_answer_without_an_end_is_given_up_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_stream, "MAX_ANSWER_BYTES", limit := 2 * 2**20)
    server = Endless(STREAM, repeat(TOKEN * 100))
    async with client_of(server) as client:
        with pytest.raises(ModelUnavailable, match=f"more than {limit} bytes"):
            await read_all(client)
    assert server.sent < limit + SOCKET_BYTES


async def test_events_without_output_do_not_keep_a_call_waiting_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_stream, "MAX_ANSWER_BYTES", 2**20)
    server = Endless(STREAM, repeat(b": ping\n\n" * 1_000))
    async with client_of(server) as client:
        with pytest.raises(ModelUnavailable, match="more than"):
            await read_all(client)


async def test_json_without_an_end_is_given_up_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_ANSWER_BYTES", limit := 2 * 2**20)
    server = Endless(JSON, repeat(b'{"a": ' * 10_000))
    async with client_of(server) as client:
        with pytest.raises(ModelUnavailable, match=f"more than {limit} bytes"):
            await client.reader.create(model="fake-1", messages=[])
    assert server.sent < limit + SOCKET_BYTES


async def test_an_error_without_an_end_is_read_up_to_its_limit() -> None:
    server = Endless(REFUSED, repeat(b"the question was bad " * 1_000))
    async with client_of(server) as client:
        with pytest.raises(ModelRejected) as refused:
            await client.reader.create(model="fake-1", messages=[])
    assert len(refused.value.detail) < 200
    assert server.sent < endpoint_errors.MAX_ERROR_BYTES + SOCKET_BYTES


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"choices": ' + b"[" * 100_000,
        b'{"choices": 7}',
        b'{"choices": [null]}',
        b'{"choices": [{"delta": [1]}]}',
        b'{"choices": [{"delta": "text"}]}',
        b'{"choices": [{"index": 1e999, "delta": {}}]}',
        b'"\xff\xfe"',
        b"{" + b'"k":1,' * 1_000 + b'"choices": "text"}',
    ],
)
async def test_a_chunk_that_is_no_chunk_ends_the_call_and_nothing_else(body: bytes) -> None:
    server = Endless(STREAM, iter([b"data: " + body + b"\n\n", b"data: [DONE]\n\n"]))
    async with client_of(server) as client:
        with pytest.raises(ModelUnavailable):
            await read_all(client)
