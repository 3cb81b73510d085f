"""What one connection may send, hold and wait for before anybody knows whose it is."""

from dataclasses import dataclass

MAX_URL_BYTES = 32_768
"""A question of 10,000 ASCII letters fits three times; longer ones go by POST."""

MAX_HEAD_BYTES = 65_536
"""URL, headers and blank lines of one request; also what may stand between two bytes of a body (chunk extensions, trailers)."""

MAX_HEADERS = 100
"""Fields of one request, trailers too. Browsers send about 20, proxies add about as many; Envoy stops at 100 as well."""

MAX_PIPELINED = 16
"""Requests that wait behind the one being answered. No common client sends any."""

MIN_BODY_BYTES = 4_096
"""Of a body that must come within `body_seconds`: under it the sender holds a place, and does not send."""

MIN_READ_BYTES = 4_096
"""Of an answer that must be taken within `write_seconds`."""

MAX_UNUSED_BYTES = 262_144
"""Of a body that go on coming after its answer is complete: about what is under way when a client is told 401."""

MAX_UNFINISHED_BYTES = 16 * 1_048_576
"""Of all requests of the process that are still arriving; the oldest gives way. At least four of the largest bodies fit."""

MAX_UNREAD_BYTES = 32 * 1_048_576
"""Of all answers of the process that wait for their readers; the one that has waited longest gives way."""

WRITE_BUFFER_BYTES = 16_384
"""Of an answer that are taken from the application ahead of its reader; the kernel's own buffer comes on top."""

LINGER_SECONDS = 2.0
"""A refusal is followed by so long of reading and dropping: a reset would take it from a client that is still sending."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that differ between the two ports, or that a setting moves."""

    connections: int
    connections_per_address: int = 0
    """0: no limit, as all callers come from one address behind a load balancer."""
    head_seconds: float = 10.0
    """Until a request's head is complete, from the connection or its first byte on."""
    body_seconds: float = 10.0
    """In which MIN_BODY_BYTES more of a body, or its end, must come."""
    idle_seconds: float = 75.0
    """Above the 60 s of common load balancers: the side that closes first must be theirs, or they see a reset."""
    write_seconds: float = 30.0
    """In which a reader must take MIN_READ_BYTES more, or all there is."""
    max_body_bytes: int = 1_048_576
