"""The open streams of this process, and calls that wait for an answer: counted, and ended together when it drains."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from agent_service.errors import TooManyStreams
from agent_service.metrics import Metrics
from agent_service.principal import Principal

log = structlog.stdlib.get_logger(__name__)

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

    def admit(self, principal: Principal) -> Callable[[], None]:
        """Takes a place for one of the principal's streams, or a call of theirs that waits; returns what gives it back.

        Raises:
            TooManyStreams
        """
        owner = (principal.tenant, principal.user)
        if self._by_owner[owner] >= self._most:
            self._metrics.rate_limited.labels("streams").inc()
            raise TooManyStreams(
                f"at most {self._most} streams and waiting calls of one caller at a time on one process"
                " (MAX_STREAMS_PER_PRINCIPAL)",
                retry_after=RETRY_SECONDS,
            )
        self._by_owner[owner] += 1
        return partial(self._give_back, owner)

    def _give_back(self, owner: tuple[str, str]) -> None:
        self._by_owner[owner] -= 1
        if not self._by_owner[owner]:
            del self._by_owner[owner]

    def track(self) -> "_Tracked":
        """`with streams.track():` counts a stream as open; `close` waits for it."""
        return _Tracked(self._change)

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
            return await self.cut_short(gone, wait)

    async def cut_short(self, gone: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T]) -> T | None:
        """The same, for who counts as open already. What `work` does is undone first: it is cancelled, and has ended."""
        working = asyncio.ensure_future(work)
        try:
            async with EndsWith(working, self.closing):
                await gone
        finally:
            if unfinished := working.cancel():
                await asyncio.wait([working])
        if working.cancelled():
            return None
        if unfinished and (error := working.exception()):
            log.info("unfinished_work_failed", error=type(error).__name__)  # nobody is there to be told
            return None
        return working.result()

    async def close(self, seconds: float) -> None:
        """Tells all to end, and waits until they have, or for so long."""
        if not self.closing.done():
            self.closing.set_result(None)
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return


class _Tracked:
    """One that is open. (A generator for it would take half a kilobyte.)"""

    __slots__ = ("_change",)

    def __init__(self, change: Callable[[int], None]) -> None:
        self._change = change

    def __enter__(self) -> None:
        self._change(1)

    def __exit__(self, *_: object) -> None:
        self._change(-1)


class EndsWith:
    """`async with EndsWith(*others):` the body is given up, without an error, once one of some futures is done.

    The body runs in the task of who calls: a task for it, and one that waits for all of them, would be more for each stream.
    """

    __slots__ = ("_ended", "_others", "_task")

    def __init__(self, *others: "asyncio.Future[Any]") -> None:
        self._others = others
        self._task: asyncio.Task[Any] | None = None
        """Of the body, while it runs."""
        self._ended = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        for other in self._others:
            other.add_done_callback(self._end)

    def _end(self, _: "asyncio.Future[Any]") -> None:
        if self._task and not self._ended:
            self._ended = True
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        task, self._task = self._task, None
        for other in self._others:
            other.remove_done_callback(self._end)
        # As asyncio.timeout does it: who else has cancelled the task meanwhile is not to be denied.
        return self._ended and task is not None and task.uncancel() == 0 and kind is asyncio.CancelledError
