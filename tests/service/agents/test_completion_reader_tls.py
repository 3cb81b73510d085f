"""Streams that are read in beats, under TLS and on the loop of the service, whose TLS is its own."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import uvloop

from agent_service.agents.completion_reader import Beat, ChunkStream
from tests.operator.test_metrics_api import Authority
from tests.support.model_client import text_of

TOKENS = 30
STREAMS = 5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def speak(connection: ssl.SSLSocket) -> None:
    """An endpoint that ends its answer with the connection, and at once."""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(65_536)
        connection.sendall(HEAD)
        for number in range(TOKENS):
            connection.sendall(b'data: {"choices":[{"index":0,"delta":{"content":"t%d "}}]}\n\n' % number)
            time.sleep(0.005)  # as a model speaks: several tokens a beat
        connection.sendall(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    Authority.make("company").write(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)  # a client that fails before all have come: the test ends

        def serve() -> None:
            speakers = []
            for _ in range(STREAMS):
                plain, _ = listener.accept()
                speakers.append(threading.Thread(target=speak, args=(context.wrap_socket(plain, server_side=True),)))
                speakers[-1].start()
            for speaker in speakers:
                speaker.join()

        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        server.join()


def test_an_answer_under_tls_is_whole_where_its_connection_ends_between_two_beats(port: int) -> None:
    async def read(session: aiohttp.ClientSession, beat: Beat) -> str:
        response = await session.post(f"https://127.0.0.1:{port}/", ssl=False)
        async with ChunkStream(response, 5, beat, lambda _: None) as stream:
            return "".join([text_of(chunk) async for chunk in stream])

    async def read_all() -> list[str]:
        beat = Beat(streams=1000)
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(read(session, beat) for _ in range(STREAMS)))

    assert uvloop.run(read_all()) == ["".join(f"t{number} " for number in range(TOKENS))] * STREAMS
