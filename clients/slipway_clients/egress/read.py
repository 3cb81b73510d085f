"""One call to somebody outside, bounded: so many bytes, so many seconds from the first to the last, and nothing compressed."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from slipway_clients.egress.text import plain

BYTES = 1 << 20
"""Of an answer where nothing else is said: a list of models, a page of keys, a status."""

VALUES = 400_000
"""Values in one JSON document, which Python turns into some 60 bytes each: `[[],[],…` of a megabyte would be 25."""


TURN = 50
"""Pieces of a body between two pauses: 3 ms."""


class ReadError(Exception):
    """There is no answer that could be used. The message is one short line, without a body, a key or a header."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status. Only its size was checked."""

    status: int
    body: bytes
    date: str = ""
    """The header, whose clock is the server's."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004  # HTTP's

    @property
    def text(self) -> str:
        """The body, what is no UTF-8 replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Raises ReadError for what is no JSON, is nested too deep, or has too many values."""
        if sum(map(self.body.count, (b",", b"[", b"{"))) > VALUES:
            raise ReadError(f"JSON of more than {VALUES} values")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ReadError(f"no JSON ({type(error).__name__})") from None


async def read(
    http: httpx.AsyncClient,
    method: str,
    url: str | httpx.URL,
    *,
    seconds: float,
    limit: int = BYTES,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Answer:
    """The whole answer, whatever its status; `options` are httpx's `params` and `json`.

    Raises:
        ReadError: no connection, or an answer beyond a limit.
    """
    try:
        async with asyncio.timeout(seconds):
            # Compressed, a body of kilobytes becomes gigabytes; and an answer of some kilobytes is not worth the risk.
            asked = {**(headers or {}), "Accept-Encoding": "identity"}
            async with http.stream(method, url, headers=asked, follow_redirects=False, timeout=seconds, **options) as response:
                return Answer(response.status_code, await _body(response, limit), response.headers.get("date", ""))
    except TimeoutError:
        raise ReadError(f"no whole answer within {seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise ReadError(f"{type(error).__name__} {plain(error)}".rstrip()) from None
    except UnicodeError:
        raise ReadError("a header that HTTP does not take") from None


async def _body(response: httpx.Response, limit: int) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ReadError(f"compressed by {plain(encoding, 20)}, which was not asked for")
    return b"".join([chunk async for chunk in pieces(response, limit)])


async def pieces(response: httpx.Response, limit: int) -> AsyncIterator[bytes]:
    """A body as it came, up to `limit` bytes. Raises ReadError beyond.

    One read from a socket may hold ten thousand pieces, which take half a second without a pause: in between others get their
    turn, the time limit of the call among them.
    """
    size = number = 0
    async for chunk in response.aiter_bytes():
        size, number = size + len(chunk), number + 1
        if size > limit:
            raise ReadError(f"an answer of more than {limit} bytes")
        yield chunk
        if number % TURN == 0:
            await asyncio.sleep(0)
