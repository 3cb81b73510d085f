"""A port: its socket, and the protocol with limits for uvicorn."""

import functools
import resource
import socket
from dataclasses import replace
from typing import Any

import structlog
import uvicorn

from agent_service.server.connections import Connections
from agent_service.server.limits import Limits
from agent_service.server.protocol import LimitedProtocol

log = structlog.stdlib.get_logger(__name__)

RESERVED_FILES = 256
"""Open files that are no connection of a client: the pools of the database and the model endpoint, probes, logs."""

UNSENT_BYTES = 32_768
"""Of an answer that the kernel takes ahead of a reader (it would take 4 MB, which count for a pod's memory, too)."""

KEEPALIVE_SECONDS = 60
"""Of silence after which the kernel asks whether the other side is still there; it asks three times, 10 s apart."""


def listen(host: str, port: int, *, write_seconds: float) -> socket.socket:
    """Raises OSError when the address cannot be had. Connections inherit the options."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # `::` is every address of both families; without this it is IPv6 only, and half of a dual-stack cluster finds nobody
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        # asyncio does this for sockets that it makes itself. Without, the kernel holds what comes behind a head of an answer, or
        # behind a token, until the client has acknowledged that: 40 ms.
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
        # What was sent and is not acknowledged: a client whose network is gone sends no FIN.
        ("TCP_USER_TIMEOUT", int(2 * write_seconds * 1000)),
    ):
        if option := getattr(socket, name, None):  # Linux has them all
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
    return listener


def server_config(app: Any, connections: Connections, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for an application whose connections are limited. Web sockets are off."""
    protocol: Any = functools.partial(LimitedProtocol, connections)
    return uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None, server_header=False, **options)


def limits_that_files_allow(limits: Limits) -> Limits:
    """Raises the soft limit of open files as far as needed and allowed; fewer connections where that is not enough.

    Out of files a server can accept nothing, not even to refuse it, and cannot reach its database.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    allowed = max(1, soft - RESERVED_FILES)
    log.warning("max_connections_lowered", reason="too few open files are allowed", files=soft, connections=allowed)
    return replace(limits, connections=allowed)
