"""The open streams of this process, and calls that wait for an answer: counted, and ended together when it drains."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agent_service.metrics import Metrics

T = TypeVar("T")


class Streams:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.closing = asyncio.Event()
        """Set when every stream is to say `reconnect` and end."""

    @contextmanager
    def track(self) -> Iterator[None]:
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

    async def unless_closing(self, wait: Coroutine[Any, Any, T]) -> T | None:
        """The result of a wait; None when the process closes its streams first."""
        with self.track():
            waiting, closing = asyncio.ensure_future(wait), asyncio.ensure_future(self.closing.wait())
            try:
                await asyncio.wait([waiting, closing], return_when=asyncio.FIRST_COMPLETED)
                return waiting.result() if waiting.done() else None
            finally:
                waiting.cancel()
                closing.cancel()

    async def close(self, seconds: float) -> None:
        """Tells all to end, and waits until they have, or for so long."""
        self.closing.set()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return
