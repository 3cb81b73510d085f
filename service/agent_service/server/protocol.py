"""uvicorn's HTTP/1.1 protocol with limits of bytes, time and number: it has none of its own before a request is complete.

A client that sends a head without end, nothing at all, a body in single bytes, or takes no byte of its answer is refused
or cut here, before the application and whoever it is. What that costs is bounded by `Limits` and the two budgets.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from agent_service.server import limits, refusals
from agent_service.server.connections import Connections
from agent_service.server.refusals import Refusal

STEP_BYTES = 8_192
"""Fed to the parser at once: it does not tell where in them a head begins, so this is how exact its size is known."""

JOINED_BYTES = 8_192
"""Of an answer that wait for more of it, within a turn of the event loop: under WRITE_BUFFER_BYTES, which pause it."""

REFUSED_CONNECTIONS = 100
"""Beyond the limit of connections, so many are told why; others are closed without a word."""

FLUSHED = "slipway.flushed"
"""ASGI extension: `await scope["extensions"][FLUSHED]["wait"]()` returns when the client's side has the answer, or is gone."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with limits of bytes and seconds on both directions. What breaks one is refused, or cut."""

    # With the base class' own in one dictionary, that would be too large for Python to share its keys: 1.3 kB a connection.
    __slots__ = (
        "_answering", "_arriving", "_beside_body", "_connections", "_deaf", "_extensions", "_fields", "_flushing", "_limits",
        "_outlet", "_reading", "_received", "_refusal", "_since", "_unsent", "_unused", "_window", "_writing", "address",
    )  # fmt: skip

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False  # its lines hold the query, and so the question
        self.address = ""
        self._connections = connections
        self._limits = connections.limits
        self.timeout_keep_alive = self._limits.idle_seconds  # type: ignore[assignment]  # whole seconds there, for no reason
        self._extensions: dict[str, dict[object, object]] = {FLUSHED: {"wait": self._flushed}}
        self._outlet: _Outlet
        self._answering: RequestResponseCycle | None = None
        """The request whose answer goes out; `cycle` is the one that came last."""
        self._arriving: Literal["", "head", "body"] = ""
        """The part of a request that is not complete; empty while none is."""
        self._since = 0.0
        self._reading: asyncio.TimerHandle | None = None
        self._deaf = False
        """What still comes is dropped."""
        self._refusal = refusals.MALFORMED
        """What a callback stopped the parser for."""
        self._fields = 0
        self._received = self._beside_body = self._unused = self._window = 0
        """Bytes: of the request that arrives; since the last one of a body; that nobody reads; in this window of time."""
        self._writing: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._flushing = False
        self.url = b""

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._outlet = _Outlet(transport, self.loop, self._close)
        self.address = self.client[0] if self.client else ""
        transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
        if self._connections.admit(self):
            self._expect("head")
        elif len(self.connections) - len(self._connections) > REFUSED_CONNECTIONS:
            self._cut("connections")
        else:
            self._refuse(refusals.TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_listening()
        if isinstance(exc, TimeoutError):  # TCP_USER_TIMEOUT
            self._connections.on_cut("unread")
        self._connections.remove(self)
        for timer in (self._reading, self._writing):
            if timer:
                timer.cancel()
        # The base class tells the request that came last, which is not the one being answered when some wait behind it.
        self.pipeline.clear()
        if self._answering and not self._answering.response_complete:
            _leave(self._answering)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def make_way(self) -> None:
        """As Connection has it, like the two that follow."""
        self._cut("connections")

    def cut_request(self) -> None:
        self._refuse(refusals.OUT_OF_MEMORY)

    def cut_answer(self) -> None:
        self._cut("unread")

    def _cut(self, reason: str) -> None:
        self._connections.on_cut(reason)
        self._stop_listening()
        self.transport.abort()

    # What comes

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        for start in range(0, len(data), STEP_BYTES):
            self._feed(data if len(data) <= STEP_BYTES else data[start : start + STEP_BYTES])
            if self._deaf:
                return
        if self._received and not self._arriving:
            self._expect("head")  # blank lines, which may stand before one
        if self._arriving:
            self._connections.unfinished.hold(self, self._received)

    def _feed(self, piece: bytes) -> None:
        self._received += len(piece)
        self._beside_body += len(piece)
        self._window += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        else:
            if self._beside_body > limits.MAX_HEAD_BYTES:
                self._refuse(refusals.WASTEFUL_BODY if self._arriving == "body" else refusals.HEAD_TOO_LARGE)
            elif self._received > 2 * (self._limits.max_body_bytes + limits.MAX_HEAD_BYTES):
                self._refuse(refusals.WASTEFUL_BODY)

    def _ignore_upgrade(self) -> None:
        """An offer of another protocol (`curl --http2`) is answered as if it were not there; the connection ends with it."""
        if self._arriving == "body":
            self._refuse(refusals.MALFORMED)
        else:
            self._stop_listening()
            self._close_after_answers()

    # Parser callbacks. What they raise ends the parsing and arrives in `_feed` as an HttpParserError.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._fields = 0
        if self._arriving != "head":
            self._expect("head")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > limits.MAX_URL_BYTES:
            self._give_up(refusals.URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > limits.MAX_HEADERS:
            self._give_up(refusals.TOO_MANY_HEADERS)
        if self._arriving == "head":  # else a trailer, which must not pass for a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= limits.MAX_PIPELINED:
            self._give_up(refusals.TOO_MANY_REQUESTS)
        if self._flushing and not self._is_answering:
            self._flushing = False
            self.transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
        super().on_headers_complete()
        self._expect("body")
        self._beside_body = self._unused = 0
        self._connections.busy(self)
        self.cycle.transport = self._outlet  # type: ignore[assignment]  # all that it uses of one
        # The base class stops reading while requests wait, and would not see that the client leaves.
        self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        self._beside_body = 0
        if self.cycle.response_complete:
            self._unused += len(body)
            if self._unused > limits.MAX_UNUSED_BYTES:
                self._give_up(refusals.UNUSED_BODY)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arriving = ""
        self._received = self._beside_body = 0
        self._connections.unfinished.release(self)

    def _give_up(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise ValueError(refusal.code)

    # Time. One timer a connection, set anew only when it fires: a request in time costs none.

    def _expect(self, part: Literal["head", "body"], seconds: float = 0.0) -> None:
        self._arriving = part
        self._since = self.loop.time()
        self._window = 0
        if self._reading is None:
            self._reading = self.loop.call_later(seconds or self._patience, self._check_arriving)

    @property
    def _patience(self) -> float:
        return self._limits.body_seconds if self._arriving == "body" else self._limits.head_seconds

    def _check_arriving(self) -> None:
        self._reading = None
        if not self._arriving:
            return
        left = self._since + self._patience - self.loop.time()
        if left > 0:
            self._reading = self.loop.call_later(left, self._check_arriving)
        elif self._arriving == "head":
            self._check_head()
        elif self._window < limits.MIN_BODY_BYTES and not self.flow.read_paused:
            self._refuse(refusals.SLOW_BODY)
        else:
            self._expect("body")

    def _check_head(self) -> None:
        if self._is_answering:
            self._expect("head")  # it waits for its turn anyway
        else:
            self._refuse(refusals.SLOW_HEAD if self._received else refusals.SILENT)

    # Ending

    @property
    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _refuse(self, refusal: Refusal) -> None:
        """Answers the request that is arriving with a refusal, after those before it, and closes."""
        self._outlet.flush()
        part = self._arriving
        self._connections.on_cut(refusal.reason)
        self._stop_listening()
        if part == "body" and self.pipeline:
            self.pipeline.popleft()  # the one whose body it is
            self._close_after_answers()
        elif part != "body" and self._is_answering:
            self._close_after_answers()
        elif part == "body" and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
        else:
            answered = part == "body" and self.cycle.response_complete
            if part == "body" and not answered:
                _leave(self.cycle)
            if not (answered or refusal.silent):
                self.transport.write(refusal.encode(self.url))
            self._linger()

    def _close_after_answers(self) -> None:
        last = self.pipeline[0][0] if self.pipeline else self._answering
        if last:
            last.keep_alive = False

    def _close(self) -> None:
        """Instead of the transport's `close`, which resets a client that is still sending."""
        self._outlet.flush()
        if self._arriving == "body" or self._deaf:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        if self.transport.is_closing():
            return
        self._stop_listening()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._unused = 0
        if self._reading:
            self._reading.cancel()
        self._reading = self.loop.call_later(limits.LINGER_SECONDS, self.transport.abort)

    def _stop_listening(self) -> None:
        if self._arriving == "body":
            self.cycle.body = bytearray()  # of no use, and kept until the connection is gone
        self._deaf = True
        self._arriving = ""
        self.parser = None  # type: ignore[assignment]  # with the part of a header that it holds; as in the base class
        self._connections.unfinished.release(self)

    def _drop(self, size: int) -> None:
        self._unused += size
        if self._unused > limits.MAX_UNUSED_BYTES:
            self.flow.pause_reading()

    # What goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._outlet.flush()
        if self._answering:
            self._answering.body = bytearray()  # what the application did not want
        super().on_response_complete()
        if not self._is_answering:
            self._connections.idle(self)
            self._flushing = True
            self.transport.set_write_buffer_limits(high=0)  # so that the deadline holds for the rest, too

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self._connections.unread.hold(self, self._unsent)
        self._writing = self.loop.call_later(self._limits.write_seconds, self._check_written)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._connections.unread.release(self)
        if self._writing:
            self._writing.cancel()
            self._writing = None

    def _check_written(self) -> None:
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if before - self._unsent < limits.MIN_READ_BYTES:
            self._cut("unread")
            return
        self._connections.unread.renew(self)
        self._writing = self.loop.call_later(self._limits.write_seconds, self._check_written)

    async def _flushed(self) -> None:
        await self.flow.drain()


class _Outlet:
    """What a request's cycle uses of its transport: `write` joins what is written within a turn of the event loop, `close` is
    the protocol's.

    A head, the first of a stream, its last and its end would be a system call each: an eighth of the CPU of a turn.
    """

    __slots__ = ("_flushing", "_loop", "_pieces", "_size", "_transport", "close", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []
        self._size = 0
        self._flushing = False
        self.is_closing = transport.is_closing
        self.close = close

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= JOINED_BYTES:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flushing = False
        if self._pieces and not self._transport.is_closing():
            self._transport.writelines(self._pieces)
        self._pieces, self._size = [], 0


def _leave(cycle: RequestResponseCycle) -> None:
    """Tells the application that its client has gone."""
    cycle.disconnected = True
    cycle.waiting_for_100_continue = False  # it may still read; nothing is written any more
    cycle.message_event.set()
