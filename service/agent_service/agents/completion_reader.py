"""Reads chat completions for ChatOpenAI, in place of the OpenAI client.

An answer of 50 tokens takes 1.3 to 1.5 ms of CPU through ChatOpenAI with this reader, and 11 to 13 ms with the stock client.
Half of what is left is saved by merging the text that arrived in one read.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

import aiohttp
import openai
import structlog
from openai.types.chat import ChatCompletion

from agent_service.agents.circuit import CircuitBreaker
from agent_service.agents.completion_format import completion
from agent_service.agents.completion_stream import Answer, Chunk, has_output, is_text
from agent_service.agents.endpoint import ModelEndpoint
from agent_service.agents.endpoint_errors import TRANSPORT, AttemptFailed, Status, read_start, status_of, transport_failure
from agent_service.errors import ModelRejected, ModelUnavailable
from agent_service.principal import CALLER

log = structlog.stdlib.get_logger(__name__)

PATH = "/chat/completions"

USAGE = "stream_options"
"""Field of a request that asks for the tokens of a stream."""

COOL_DOWN_SECONDS = 30.0
"""How long a model that failed all its retries is passed over for the fallback before it is tried again."""

MOST_PASSED_OVER = 1_000
"""Callers and models for which that is known; beyond, all are tried again."""

LINGER_SECONDS = 0.25
"""Wait after `[DONE]` for the end of the response, so that its connection can be used again."""

MAX_LINGER_BYTES = 1_000
"""What may still come after `[DONE]`; with more than a few newlines the connection is not worth keeping."""

GATHER_SECONDS = 0.01
"""Least time between two reads of a stream: tokens that come faster than 100 a second are passed on together."""

TICK_MILLISECONDS = 40
"""While many streams are open all are read in beats of so long, under the 50 ms that a reader notices: a read, and the write that
follows, take 0.1 ms of CPU, and a token in them a tenth of that."""

TICK_ABOVE = 16
"""Open streams beyond which they are read in beats: at 50 tokens/s so many take an eighth of a core."""


class Said(Protocol):
    """Told of an answer as it is read."""

    def hear(self, text: str) -> None:
        """The next piece of its text."""

    def think(self, thought: str) -> None:
        """The next piece of what it thinks, which comes once more, whole, in the chunks."""

    def hold(self, characters: int) -> None:
        """So many more of calls of tools, which come whole when the model is through with them."""


@dataclass(slots=True)
class Beat:
    """When the streams of a process are read: at once while few are open, else all together, TICK_MILLISECONDS apart."""

    streams: int = 0
    """That are open now."""
    _held: list[asyncio.ReadTransport] = field(default_factory=list)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None

    async def turn(self, response: aiohttp.ClientResponse) -> None:
        """Returns when the response may be read; what comes before the next beat, one read then finds.

        It waits in the system, and the read itself waits for the beat. Not under TLS: uvloop takes it from the system anyway, and
        drops what is not decrypted when the other side closes.
        """
        if self.streams <= TICK_ABOVE:
            return
        self._set_timer()
        if transport := _plain(response):
            transport.pause_reading()
            self._held.append(transport)
        if transport is None or response.content._size:  # noqa: SLF001  # has no public name; there is something to read already
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    def _set_timer(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            # In whole milliseconds, as uvloop's time is: at a multiple of 0.04 the rest may be 0.0399999, and the beat at once.
            wait = TICK_MILLISECONDS - round(loop.time() * 1000) % TICK_MILLISECONDS
            self._timer = loop.call_later(wait / 1000, self._read_on)

    def _read_on(self) -> None:
        held, waiting = self._held, self._waiting
        self._held, self._waiting, self._timer = [], [], None
        for transport in held:
            transport.resume_reading()
        for each in waiting:
            if not each.done():
                each.set_result(None)


def _plain(response: aiohttp.ClientResponse) -> asyncio.ReadTransport | None:
    """What the response is read from, without TLS; None also when all of it is here."""
    connection = response.connection
    transport: Any = connection.transport if connection else None  # aiohttp says it may be one that only writes
    return None if transport is None or transport.get_extra_info("ssl_object") else transport


class ChunkStream:
    """An answer that arrives: an async context manager and iterator of chunks as dicts.

    Iterating raises ModelUnavailable when the answer breaks off, ModelRejected when the endpoint ends it with a 4xx.
    With `said` text is told to that as it comes, and is in the chunks once: in one before the next chunk of another kind.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        timeout: float,
        beat: Beat,
        count: Callable[[Status], None],
        said: Said | None = None,
    ) -> None:
        self._response = response
        self._timeout = timeout
        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self._last_read = 0.0
        self._count = count
        self._counted = False
        self._answer = Answer()
        self._ready: deque[Chunk] = deque()
        self._said = said
        self._held = 0
        self._thoughts = 0
        """Pieces that were told."""

    async def prime(self) -> None:
        """Reads up to the first output; until then a failure is the attempt's and may be retried."""
        while not self._answer.thoughts.pieces and not any(map(has_output, self._ready)):
            if self._answer.failure:
                raise self._answer.failure
            if self._answer.done:
                raise AttemptFailed("server_error", "its answer was empty")
            await self._read()
            self._last_read = 0.0  # the first output waits for no other
        self._last_read = self._loop.time()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._said is None:
            return await self._next()
        texts: list[str] = []
        try:
            while is_text(chunk := await self._next()):
                texts.append(self._tell(chunk))
        except StopAsyncIteration:
            if not any(texts):
                raise
            return _text_chunk(texts)
        texts.append(self._tell(chunk))
        if not any(texts):
            return chunk
        self._ready.appendleft(chunk)
        return _text_chunk(texts)

    def _tell(self, chunk: Chunk) -> str:
        """Takes the text out of a chunk."""
        delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
        text = delta.get("content")
        if not text or not isinstance(text, str) or self._said is None:
            return ""
        self._said.hear(text)
        delta["content"] = ""
        return text

    async def _next(self) -> Chunk:
        while not self._ready:
            if failure := self._answer.failure:
                self._count_once(status_of(failure))
                if isinstance(failure, ModelRejected):
                    raise failure
                raise failure.final() from failure
            if self._answer.done:
                await self._linger()
                raise StopAsyncIteration
            await self._beat.turn(self._response)
            await self._read()
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        self._beat.streams += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._beat.streams -= 1
        self._count_once("ok")
        self._response.close()

    async def _read(self) -> None:
        try:
            data = await self._response.content.readany()
            if data and (wait := self._last_read + GATHER_SECONDS - self._loop.time()) > 0:
                await asyncio.sleep(wait)
                data += self._arrived()
            self._last_read = self._loop.time()
        except TRANSPORT as error:
            if rest := self._arrived():
                self._ready.extend(self._answer.feed(rest))
            if not self._answer.done:
                self._ready.extend(self._answer.fail(transport_failure(error, self._timeout)))
        else:
            self._ready.extend(self._answer.feed(data))
            if self._said:
                self._tell_beside(self._said)

    def _tell_beside(self, said: Said) -> None:
        """What the last read brought that is no text."""
        if thoughts := self._answer.thoughts.pieces[self._thoughts :]:
            said.think("".join(thoughts))
            self._thoughts += len(thoughts)
        if self._answer.held > self._held:
            said.hold(self._answer.held - self._held)
            self._held = self._answer.held

    def _arrived(self) -> bytes:
        """What is here already, also if the connection broke off behind it: aiohttp's `read_nowait` raises then, and keeps it."""
        arrived: bytes = self._response.content._read_nowait(-1)  # noqa: SLF001  # see above
        return arrived

    async def _linger(self) -> None:
        self._count_once("ok")
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(LINGER_SECONDS):
                await read_start(self._response, MAX_LINGER_BYTES)

    def _count_once(self, status: Status) -> None:
        if not self._counted:
            self._counted = True
            self._count(status)


def _text_chunk(texts: list[str]) -> Chunk:
    return {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "".join(texts)}}]}


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What `with_raw_response.create` returns."""

    body: ChunkStream | dict[str, Any]

    def parse(self) -> ChunkStream | ChatCompletion:
        """A whole answer as the client has it: its fields are there even where the endpoint left them out."""
        return ChatCompletion.construct(**self.body) if isinstance(self.body, dict) else self.body


@dataclass(frozen=True, slots=True)
class CompletionsReader:
    """Has the methods of `AsyncOpenAI().chat.completions` that ChatOpenAI calls.

    A model that fails all its retries before the first output gives way to `fallback`, and is then passed over for a while.
    """

    endpoint: ModelEndpoint
    fallback: str | None = None
    clock: Callable[[], float] = time.monotonic
    beat: Beat = field(default_factory=Beat)
    down_until: dict[tuple[str, str], float] = field(default_factory=dict)
    """By model and caller, whose own request may be why it failed: when, by `clock`, it is to be tried again."""
    without_usage: set[str] = field(default_factory=set)
    """Models whose endpoint refuses `stream_options`, which asks for the usage; their tokens are estimated."""
    breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(0))

    async def create(
        self, *, extra_body: dict[str, Any] | None = None, said: Said | None = None, **payload: Any
    ) -> ChunkStream | dict[str, Any]:
        """A stream for `stream=True`, whose first output has arrived; else the response as a dict.

        Args:
            said: told the text of a stream as it is read.

        Raises:
            ModelUnavailable: the model, and the fallback if there is one, failed after all retries.
            ModelRejected: the endpoint refused the request.
        """
        payload |= extra_body or {}
        model = payload["model"]
        if self.fallback is None or model == self.fallback:
            return await self._send(payload, said)
        which = (model, CALLER.get())
        if self.clock() >= self.down_until.get(which, float("-inf")):
            try:
                return await self._send(payload, said)
            except ModelUnavailable:
                if len(self.down_until) >= MOST_PASSED_OVER:
                    self.down_until.clear()
                self.down_until[which] = self.clock() + COOL_DOWN_SECONDS
        return await self._send({**payload, "model": self.fallback}, said)

    @property
    def with_raw_response(self) -> "RawCompletionsReader":
        """The OpenAI client's way to ask for headers with the answer; ChatOpenAI takes it for some calls."""
        return RawCompletionsReader(self)

    async def _send(self, payload: dict[str, Any], said: Said | None) -> ChunkStream | dict[str, Any]:
        """Through the model's circuit, which learns how the call went until its first output."""
        model = payload["model"]
        self.breaker.check(model)
        try:
            answer = await self._ask(payload, said)
        except (ModelRejected, openai.RateLimitError):  # an endpoint that says no, or later, is there
            self.breaker.answered(model)
            raise
        except openai.AuthenticationError:  # the key's fault
            raise
        except ModelUnavailable:
            self.breaker.failed(model)
            raise
        self.breaker.answered(model)
        return answer

    async def _ask(self, payload: dict[str, Any], said: Said | None) -> ChunkStream | dict[str, Any]:
        if not payload.get("stream"):
            return await self.endpoint.post_json(PATH, payload, completion)

        async def receive(response: aiohttp.ClientResponse) -> ChunkStream:
            count = partial(self.endpoint.on_request, payload["model"])
            stream = ChunkStream(response, self.endpoint.timeout, self.beat, count, said)
            await stream.prime()
            return stream

        if payload["model"] in self.without_usage:
            payload = _without(USAGE, payload)
        try:
            return await self.endpoint.post(PATH, payload, receive)
        except ModelRejected as refused:
            if USAGE not in payload or not any(name in str(vars(refused).get("message")) for name in (USAGE, "include_usage")):
                raise
        log.warning("usage_refused", model=payload["model"], effect="the endpoint refuses stream_options; tokens are estimated")
        self.without_usage.add(payload["model"])
        return await self.endpoint.post(PATH, _without(USAGE, payload), receive)


def _without(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != name}


@dataclass(frozen=True, slots=True)
class RawCompletionsReader:
    """`CompletionsReader` by that way."""

    reader: CompletionsReader

    async def create(self, **payload: Any) -> RawResponse:
        return RawResponse(await self.reader.create(**payload))
