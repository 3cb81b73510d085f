"""What a connection may send, and what it is told, over real sockets."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import uvicorn

from agent_service.server import limits
from agent_service.server.connections import Connections
from agent_service.server.limits import Limits
from agent_service.server.listener import listen, server_config
from agent_service.server.protocol import FLUSHED, _Outlet

USUAL = Limits(connections=50, max_body_bytes=10_000)

HEAD = b"GET /x HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"


@dataclass
class Port:
    number: int
    connections: Connections
    cut: list[str]
    seen: list[dict[str, Any]]
    flushed: asyncio.Event
    clients: list["Client"]

    async def open(self, *, ahead: int = 2**24) -> "Client":
        """Args: ahead: bytes that asyncio reads ahead of the test."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.number, limit=ahead))
        self.clients.append(client)
        return client


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()

    async def rest(self, seconds: float = 10) -> bytes:
        """All that comes until the server closes."""
        read = b""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65_536):
                    read += piece
        return read

    async def answer(self) -> bytes:
        """One answer with a length."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head + await self.reader.readexactly(length)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(own: Limits = USUAL) -> AsyncIterator[Port]:
    """A port whose application reads the body and tells its size; `/early` answers without reading, `/large` much,
    `/wait` when the client has gone."""
    cut: list[str] = []
    connections = Connections(own, on_cut=cut.append)
    port = Port(0, connections, cut, [], asyncio.Event(), [])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        port.seen.append(scope)
        size, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if scope["path"] == "/wait" and message["type"] == "http.request":
                more = True
        body = b"x" * 5_000_000 if scope["path"] == "/large" else b"%d" % size
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        await scope["extensions"][FLUSHED]["wait"]()
        port.flushed.set()

    listener = listen("127.0.0.1", 0, write_seconds=own.write_seconds)
    port.number = listener.getsockname()[1]
    server = uvicorn.Server(server_config(app, connections, timeout_graceful_shutdown=1))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]  # pytest's signals stay pytest's
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.001)
        yield port
    finally:
        for client in port.clients:
            await client.close()
        server.should_exit = True
        await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


async def refused(port: Port, *pieces: bytes) -> bytes:
    """What a client is told that sends these pieces; the connection is closed after it."""
    client = await port.open()
    await client.send(*pieces)
    told = await client.rest()
    await client.close()
    return told


async def test_a_head_and_its_short_body_are_one_write_and_answers_that_wait_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes: list[list[bytes]] = []
    flush = _Outlet.flush

    def noted(self: _Outlet) -> None:
        if self._pieces:
            writes.append(list(self._pieces))
        flush(self)

    monkeypatch.setattr(_Outlet, "flush", noted)
    async with serving() as port:
        client = await port.open()
        await client.send(POST + b"Content-Length: 3\r\n\r\nabc" + POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nab")
        told = await client.rest()
    assert [len(pieces) for pieces in writes] == [2, 2]
    first, second = told.split(b"HTTP/1.1 ")[1:]
    assert (first[:3], first[-1:]) == (b"200", b"3")
    assert (second[:3], second[-1:]) == (b"200", b"2")


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((b"GET /" + b"a" * 40_000,), b"414"),
        ((b"GET /", *[b"a" * 1000] * 60), b"414"),
        ((HEAD + b"X: ", *[b"v" * 1000] * 100), b"431"),
        ((HEAD, *[b"n" * 1000] * 100), b"431"),
        ((HEAD, *[b"n: " + b"v" * 990 + b"\r\n"] * 80), b"431"),
        ((HEAD, *[b"a: b\r\n"] * 110), b"431"),
        ((b"\r\n" * 50_000,), b"431"),
        ((POST + b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"e" * 1000] * 100), b"413"),
        ((POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1;" + b"e" * 990 + b"\r\na\r\n"] * 200), b"413"),
        ((POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: ", *[b"t" * 1000] * 100), b"413"),
        ((POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", *[b"t: t\r\n"] * 110), b"431"),
        ((b"nonsense\r\n\r\n",), b"400"),
        ((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), b"400"),
        ((b"\x16\x03\x01\x02\x00\x01\x00",), b"400"),
        ((b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",), b"400"),
        ((POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",), b"400"),
    ],
    ids=[
        "url", "url in pieces", "header value", "header name", "headers", "number of headers", "blank lines", "chunk extension",
        "chunk extensions", "trailer", "number of trailers", "no http", "http/2", "tls", "connect", "two lengths",
    ],
)  # fmt: skip
async def test_what_is_too_large_or_no_http_is_refused_and_the_connection_closed(
    pieces: tuple[bytes, ...], status: bytes
) -> None:
    async with serving() as port:
        told = await refused(port, *pieces)

        assert told.startswith(b"HTTP/1.1 " + status + b" ")
        assert b"application/problem+json" in told
        assert len(port.cut) == 1
        await until(lambda: not len(port.connections))
        assert port.connections.unfinished.total == 0
        assert (await refused(port, HEAD + b"Connection: close\r\n\r\n")).endswith(b"\r\n\r\n0")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", b""),
        (b"\r\n", b"HTTP/1.1 408 "),
        (b"G", b"HTTP/1.1 408 "),
        (HEAD, b"HTTP/1.1 408 "),
        (POST + b"Content-Length: 9000\r\n\r\n", b"HTTP/1.1 408 "),
        (POST + b"Content-Length: 9000\r\n\r\nabc", b"HTTP/1.1 408 "),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "blank line", "letter", "head", "no body", "part of a body", "part of a chunked body"],
)
async def test_a_request_that_does_not_come_is_not_waited_for(sent: bytes, told: bytes) -> None:
    async with serving(replace(USUAL, head_seconds=0.2, body_seconds=0.2)) as port:
        heard = await refused(port, sent)

        assert heard.startswith(told)
        assert bool(heard) == bool(told)
        assert port.cut == ["slow"]


@pytest.mark.parametrize("start", [HEAD, POST + b"Content-Length: 9000\r\n\r\n"], ids=["head", "body"])
async def test_single_bytes_do_not_keep_a_request_alive(start: bytes) -> None:
    async with serving(replace(USUAL, head_seconds=0.3, body_seconds=0.3)) as port:
        client = await port.open()
        await client.send(start)

        async def drip() -> None:
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        began = time.monotonic()
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 8
        dripping.cancel()


async def test_a_body_may_take_its_time_while_it_comes() -> None:
    own = replace(USUAL, body_seconds=0.3, max_body_bytes=1_000_000)
    async with serving(own) as port:
        client = await port.open()
        await client.send(POST + b"Content-Length: 50000\r\n\r\n")
        for _ in range(10):
            await client.send(b"x" * 5_000)
            await asyncio.sleep(0.1)
        assert (await client.answer()).endswith(b"\r\n\r\n50000")


async def test_connections_are_kept_and_idle_ones_closed() -> None:
    async with serving(replace(USUAL, head_seconds=0.2, idle_seconds=0.6)) as port:
        client = await port.open()
        for _ in range(3):
            await client.send(HEAD + b"\r\n")
            assert (await client.answer()).endswith(b"\r\n\r\n0")
            await asyncio.sleep(0.3)  # longer than a head may take
        assert await client.rest() == b""
        assert port.cut == []


async def test_requests_that_come_at_once_are_answered_in_order() -> None:
    async with serving() as port:
        client = await port.open()
        bodies = [b"x" * n for n in range(limits.MAX_PIPELINED)]
        await client.send(b"".join(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies))
        assert [(await client.answer()).rpartition(b"\r\n")[2] for _ in bodies] == [b"%d" % len(body) for body in bodies]


async def test_a_flood_of_requests_is_answered_as_far_as_it_is_taken() -> None:
    async with serving() as port:
        client = await port.open()
        await client.send(*[HEAD + b"\r\n"] * 5_000)
        answers = (await client.rest()).count(b"HTTP/1.1 200 ")
        assert 1 <= answers <= 4_999
        assert len(port.seen) == answers
        assert port.cut == ["malformed"]


async def test_a_bad_request_after_good_ones_leaves_their_answers_whole() -> None:
    async with serving() as port:
        told = await refused(port, (HEAD + b"\r\n") * 3 + b"nonsense\r\n\r\n")
        assert told.count(b"HTTP/1.1 200 ") == 3
        assert b" 400 " not in told


async def test_a_body_that_goes_on_after_its_answer_is_read_for_a_while() -> None:
    async with serving() as port:
        early = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n"
        client = await port.open()
        await client.send(early, b"x" * 10_000)
        assert b" 200 " in await client.answer()
        await client.send(b"x" * 10_000, HEAD + b"\r\n")
        assert (await client.answer()).endswith(b"\r\n\r\n0")  # the connection lives on

        endless = await port.open()
        await endless.send(early.replace(b"Content-Length: 20000", b"Transfer-Encoding: chunked"))
        assert b" 200 " in await endless.answer()
        await endless.send(*[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 500)
        assert await endless.rest() == b""
        assert port.cut == ["body"]


async def test_trailers_are_no_headers() -> None:
    async with serving() as port:
        client = await port.open()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await client.answer()).endswith(b"\r\n\r\n1")
        assert [name for name, _ in port.seen[0]["headers"]] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("offer", [b"websocket", b"h2c"])
async def test_an_offer_of_another_protocol_is_answered_as_http(offer: bytes) -> None:
    async with serving() as port:
        told = await refused(port, HEAD + b"Connection: Upgrade\r\nUpgrade: " + offer + b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200 ")
        assert told.endswith(b"\r\n\r\n0")


async def test_an_expectation_is_answered_when_the_body_is_wanted() -> None:
    async with serving() as port:
        client = await port.open()
        await client.send(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert (await client.answer()).endswith(b"\r\n\r\n3")


async def test_silent_connections_keep_nobody_out() -> None:
    async with serving(replace(USUAL, connections=20)) as port:
        for _ in range(60):
            await port.open()
        client = await port.open()
        await client.send(HEAD + b"\r\n")
        assert (await client.answer()).endswith(b"\r\n\r\n0")
        assert len(port.connections) == 20
        assert port.cut == ["connections"] * 41


async def test_busy_connections_are_not_given_up_for_new_ones() -> None:
    async with serving(replace(USUAL, connections=5)) as port:
        busy = [await port.open() for _ in range(5)]
        for one in busy:
            await one.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(port.seen) == 5)
        told = await refused(port, b"")
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in told
        for one in busy:
            await one.close()
        await until(lambda: not len(port.connections))
        assert (await refused(port, HEAD + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_connections_of_one_address_can_be_limited() -> None:
    async with serving(replace(USUAL, connections_per_address=2)) as port:
        mine = [await port.open() for _ in range(2)]
        await asyncio.sleep(0)
        assert (await refused(port, b"")).startswith(b"HTTP/1.1 503 ")
        await mine[0].close()
        await until(lambda: len(port.connections) == 1)
        assert (await refused(port, HEAD + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_reader_that_does_not_read_is_cut_off_and_one_that_reads_slowly_is_not() -> None:
    async with serving(replace(USUAL, write_seconds=0.5)) as port:
        stuck, slow = await port.open(ahead=1024), await port.open(ahead=1024)
        for one in (stuck, slow):
            await one.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        read = 0
        while read < 5_000_000:
            read += len(await slow.reader.read(100_000))
            await asyncio.sleep(0.02)
        await until(lambda: "unread" in port.cut)
        assert port.cut == ["unread"]
        assert port.connections.unread.total == 0


async def test_an_answer_is_flushed_once_its_reader_has_it() -> None:
    async with serving() as port:
        client = await port.open(ahead=1024)
        await client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.read(1)
        await asyncio.sleep(0.1)
        assert not port.flushed.is_set()
        read = 0
        while read < 5_000_000:
            read += len(await client.reader.read(1_000_000))
        await asyncio.wait_for(port.flushed.wait(), 5)


async def test_an_answer_counts_as_flushed_when_its_reader_is_gone() -> None:
    async with serving() as port:
        client = await port.open(ahead=1024)
        await client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.read(1)
        client.writer.transport.abort()
        await asyncio.wait_for(port.flushed.wait(), 5)


async def test_a_client_that_leaves_is_noticed_whatever_it_sent_ahead() -> None:
    async with serving() as port:
        client = await port.open()
        await client.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + (HEAD + b"\r\n") * 3)
        await until(lambda: bool(port.seen))
        await client.close()
        await asyncio.wait_for(port.flushed.wait(), 5)
        assert len(port.seen) == 1
