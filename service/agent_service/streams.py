"""The open streams of this process: counted, and closed together at the end of a drain."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from agent_service.metrics import Metrics


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

    async def close(self, seconds: float) -> None:
        """Tells all to end, and waits until they have, or for so long."""
        self.closing.set()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return
