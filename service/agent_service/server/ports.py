"""What is said when a port cannot be had."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from agent_service.errors import SettingsError


@contextmanager
def opening(name: str, address: str, port: int) -> Iterator[None]:
    """Turns what the system says about an address into a SettingsError that names the setting."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"already in use on {address}; stop what listens there, or set {name} to another port (0: any free one)"
        else:
            reason = f"cannot listen on {address}: {error.strerror}"
        raise SettingsError(f"{name}={port}: {reason}") from None


def check_free(name: str, address: str, port: int) -> None:
    """Raises SettingsError: the port cannot be had, now."""
    with opening(name, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        socket.create_server((address, port), family=family).close()
