"""Connections that end in a reset after an answer: https://github.com/Soju06/codex-lb/issues/2041 (uvicorn keeps the request
until its keep-alive timer fires; behind a proxy that resets idle connections a process ran out of memory), and
https://github.com/Kludex/uvicorn/issues/1199 (connections that a malformed request left open).

Here nothing is left: the protocol stops that timer itself. Siblings: a proper end, a reset in the middle of the next head or
body, and behind a refusal.
"""

import gc
import socket
import struct
from dataclasses import replace

import pytest

from agent_service.server.protocol import LimitedProtocol
from tests.service.server.test_protocol import HEAD, POST, USUAL, Port, serving, until

CONNECTIONS = 20

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER without a time: `close` sends a RST."""

ENDS: dict[str, bytes] = {
    "idle": b"",
    "in the next head": b"GET /y HTTP/1.1\r\nX: ",
    "in the next body": POST + b"Content-Length: 100\r\n\r\nabc",
    "behind a refusal": b"nonsense\r\n\r\n",
}


def alive(port: Port) -> int:
    port.seen.clear()  # the test's own hold on requests
    gc.collect()
    # Not gc.get_objects(): it shows a tuple that another thread is making, and that thread then fails.
    return sum(type(each) is LimitedProtocol for each in gc.get_referrers(LimitedProtocol))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_nothing_of_a_connection_outlives_it(end: str, reset: bool) -> None:
    # Far beyond the test: what waits for the timer is seen.
    async with serving(replace(USUAL, idle_seconds=600, head_seconds=600, body_seconds=600)) as port:
        before = alive(port)
        for _ in range(CONNECTIONS):
            client = await port.open()
            await client.send(HEAD + b"\r\n")
            assert (await client.answer()).endswith(b"\r\n\r\n0")
            await client.send(ENDS[end])
            if reset:
                raw: socket.socket = client.writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.writer.transport.abort()
            await client.close()
        port.clients.clear()
        await until(lambda: alive(port) == before)
        assert len(port.connections) == 0
