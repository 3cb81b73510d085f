"""The listening socket: which addresses it is reached by, and what its connections have from it."""

import asyncio
import socket

import pytest

from agent_service.server.listener import listen


def families(host: str) -> set[str]:
    """Loopback addresses at which a listener on `host` can be reached."""
    reached = set()
    with listen(host, 0, write_seconds=1) as listener:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                if client.connect_ex((address, listener.getsockname()[1])) == 0:
                    reached.add(address)
    return reached


@pytest.mark.parametrize(
    ("host", "reached"),
    [("::", {"127.0.0.1", "::1"}), ("0.0.0.0", {"127.0.0.1"}), ("127.0.0.1", {"127.0.0.1"}), ("::1", {"::1"})],
)
def test_two_colons_are_every_address_of_both_families(host: str, reached: set[str]) -> None:
    assert families(host) == reached


async def test_a_connection_sends_what_is_written_at_once() -> None:
    """And not when the client has acknowledged what was sent before."""
    loop, accepted = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            server = transport.get_extra_info("socket")
            accepted.set_result(server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    with listen("127.0.0.1", 0, write_seconds=1) as listener:
        async with await loop.create_server(Told, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await accepted
            writer.close()
