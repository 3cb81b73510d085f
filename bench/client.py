"""The client: an HTTP/1.1 connection that reads event streams, so lean that 400 of 50 tokens a second leave the core room."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self, cast
from urllib.parse import urlsplit

import httptools
import orjson

END = b"[DONE]"


class WrongAnswer(Exception):
    """A character is missing, wrong or there twice: whatever was measured counts for nothing."""


class Refused(Exception):
    """The server answered with a status other than 200, or with an error event."""


@dataclass(slots=True)
class Turn:
    """One stream as it was read. Times in seconds; `started` by time.perf_counter."""

    started: float = 0.0
    first: float = 0.0
    """From the request to the first text."""
    total: float = 0.0
    reads: list[float] = field(default_factory=list)
    """When text came, by time.perf_counter; what came together counts once."""
    text: str = ""
    event_id: str = ""
    """Of the last event."""
    complete: bool = False

    def gaps(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """Between two reads that brought text, both of them between these times."""
        return [later - sooner for sooner, later in pairwise(self.reads) if sooner >= begin and later <= end]


Read = Callable[[bytes, Turn], str | None]
"""The text of one SSE event; it may note other things in the turn."""


def agent_event(block: bytes, turn: Turn) -> str | None:
    """An event of Slipway's wire and of the tutorial's: text is unnamed.

    Raises:
        Refused: an `error` event.
    """
    text = None
    for line in block.split(b"\n"):
        if line.startswith(b"data: "):
            text = line[6:] if text is None else text + b"\n" + line[6:]
        elif line.startswith(b"id: "):
            turn.event_id = line[4:].decode()
        elif line.startswith(b"event: "):
            if line == b"event: error":
                raise Refused(block.decode())
            if line == b"event: reset":
                turn.text = orjson.loads(block.partition(b"data: ")[2])["text"]
            return None
    if text == END:
        turn.complete = True
        return None
    return None if text is None else text.decode()


def model_event(block: bytes, turn: Turn) -> str | None:
    """An event of the model's own wire: the direct line."""
    data = block.removeprefix(b"data: ")
    if data == END:
        turn.complete = True
        return None
    choices = orjson.loads(data)["choices"]
    return choices[0]["delta"].get("content") or None if choices else None


def thread_event(block: bytes, turn: Turn) -> str | None:
    """An event of the wire of LangGraph's SDKs, mode messages-tuple.

    Raises:
        Refused: an `error` event.
    """
    if block.startswith(b"event: messages\n"):
        chunk = orjson.loads(block.partition(b"data: ")[2].partition(b"\n")[0])[0]
        return chunk["content"] or None if chunk["type"] == "AIMessageChunk" else None
    if block.startswith(b"event: error\n"):
        raise Refused(block.decode())
    turn.complete = turn.complete or block.startswith(b"event: end\n")
    return None


class Connection(asyncio.Protocol):
    """Kept alive from one request to the next. `async with await Connection.open(url) as connection`."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._body = bytearray()
        self._turn = Turn()
        self._read: Read = agent_event
        self._enough: Callable[[Turn], bool] | None = None
        self._done: asyncio.Future[None] | None = None
        self.answered = asyncio.Event()
        """Set once the head of an answer is there."""

    @classmethod
    async def open(cls, url: str) -> Self:
        parts = urlsplit(url)
        _, connection = await asyncio.get_running_loop().create_connection(cls, str(parts.hostname), parts.port or 80)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.abort()

    async def stream(
        self,
        path: str,
        body: object = None,
        *,
        read: Read = agent_event,
        headers: str = "",
        turn: Turn | None = None,
        enough: Callable[[Turn], bool] | None = None,
    ) -> Turn:
        """POSTs `body`, or GETs, and reads the stream to its end, or until `enough` says so: then the connection is cut.

        `turn`: goes on with this one, as a reader who comes back.

        Raises:
            Refused: the server answered something else.
            ConnectionError: the stream broke off.
        """
        self._turn, self._read, self._enough = turn or Turn(), read, enough
        self._turn.started = time.perf_counter()
        self._rest, self._done = b"", asyncio.get_running_loop().create_future()
        content = b"" if body is None else orjson.dumps(body)
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{headers}"
        self._transport.write(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
        )
        await self._done
        self._turn.total = time.perf_counter() - self._turn.started
        return self._turn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(getattr(error, "__context__", None) or error)

    def on_headers_complete(self) -> None:
        self.answered.set()

    def on_body(self, data: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._body += data
            return
        *blocks, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        turn = self._turn
        texts = [text for block in blocks if (text := self._read(block, turn)) is not None]
        if texts:
            now = time.perf_counter()
            turn.text += "".join(texts)
            turn.first = turn.first or now - turn.started
            turn.reads.append(now)
            if self._enough and self._enough(turn):
                self._end(None)
                self.close()

    def on_message_complete(self) -> None:
        if (status := self._parser.get_status_code()) == 200:
            self._end(None)
        else:
            self._end(Refused(f"status {status}: {bytes(self._body[:500]).decode(errors='replace')}"))
            self._body.clear()

    def _end(self, error: BaseException | None) -> None:
        if self._done and not self._done.done():
            if error:
                self._done.set_exception(error)
            else:
                self._done.set_result(None)
