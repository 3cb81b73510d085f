"""The listening socket: which addresses it is reached by."""

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
