"""Ports for servers that are started a little later, by processes of their own."""

import itertools
import os
import random
import socket

FIRST, PER_WORKER, WORKERS = 10_000, 1_400, 16
"""Below the ports that Linux gives to outgoing connections and to servers on port 0 (32,768 on): none of those takes one
between the choice and the start. Each worker of a test run has its own share."""


def _share() -> range:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    start = FIRST + worker * PER_WORKER
    return range(start, start + PER_WORKER)


_mine = itertools.cycle(random.sample(_share(), PER_WORKER))  # not the order of another run on this machine


def free_port() -> int:
    """A port on loopback that nothing listens on, and that is not given out again soon."""
    for port in itertools.islice(_mine, PER_WORKER):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else one in TIME_WAIT counts as taken
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port in {_share()}")
