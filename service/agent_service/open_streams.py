"""The open streams of this process, and calls that wait for an answer: counted, and ended together when it drains."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agent_service.errors import TooManyStreams
from agent_service.metrics import Metrics
from agent_service.principal import Principal

T = TypeVar("T")

RETRY_SECONDS = 5
"""What a caller with too many streams is asked to wait: turns end in seconds."""


class Streams:
    """A place for each stream of a caller, and one signal that ends all. One per process."""

    def __init__(self, metrics: Metrics, *, most_of_one: int) -> None:
        self._metrics = metrics
        self._most = most_of_one
        self._by_owner: Counter[tuple[str, str]] = Counter()
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when every stream is to say `reconnect` and end."""

    @contextmanager
    def admit(self, principal: Principal) -> Iterator[None]:
        """A place for one of the principal's streams, or a call of theirs that waits. Raises TooManyStreams."""
        owner = (principal.tenant, principal.user)
        if self._by_owner[owner] >= self._most:
            self._metrics.rate_limited.labels("streams").inc()
            raise TooManyStreams(
                f"at most {self._most} streams and waiting calls of one caller at a time on one process"
                " (MAX_STREAMS_PER_PRINCIPAL)",
                retry_after=RETRY_SECONDS,
            )
        self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._by_owner[owner] -= 1
            if not self._by_owner[owner]:
                del self._by_owner[owner]

    @contextmanager
    def track(self) -> Iterator[None]:
        """Counts a stream as open; `close` waits for it."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        self._open += by
        self._metrics.streams_open.set(self._open)
        if self._open:
            self._empty.clear()
        else:
            self._empty.set()

    async def unless(self, gone: Coroutine[Any, Any, None], wait: Coroutine[Any, Any, T]) -> T | None:
        """The result of a wait; None when its client is `gone`, or the process closes its streams (`closing`), first."""
        with self.track():
            waiting = asyncio.ensure_future(wait)
            tasks: list[asyncio.Future[Any]] = [waiting, asyncio.ensure_future(gone)]
            try:
                await asyncio.wait([*tasks, self.closing], return_when=asyncio.FIRST_COMPLETED)
                return waiting.result() if waiting.done() else None
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self, seconds: float) -> None:
        """Tells all to end, and waits until they have, or for so long."""
        if not self.closing.done():
            self.closing.set_result(None)
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return
