"""The event loop's threads. Whoever waits in one of them holds up its own lane only: one run, or one job of the service.

asyncio's own default executor has `cores + 4` threads for everything: sync nodes, DNS, files, and the serialising of
checkpoints. Eight sync nodes that called `subgraph.invoke` took them all, waited for their checkpoints to be serialised
by such a thread, and the process stood still for good.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LANE_THREADS = 32
"""Threads of one lane: a fan-out to a thousand sync nodes must not become a thousand threads. asyncio's own most."""

IDLE_SECONDS = 5.0
"""How long an idle thread is kept: making one takes 0.1 ms."""

LANE: ContextVar[Hashable] = ContextVar("lane", default="service")
"""Whose work this is: a LiveRun within its run. Tasks and threads inherit it."""

_INSIDE: ContextVar[Hashable] = ContextVar("inside", default=None)
"""The lane of the thread that this code runs in, or that asked the loop for it."""


@contextmanager
def lane(name: Hashable) -> Iterator[None]:
    """What is handed to a thread from here goes by that lane."""
    token = LANE.set(name)
    try:
        yield
    finally:
        LANE.reset(token)


@dataclass(slots=True)
class _Job:
    future: Future[Any]
    call: Callable[[], Any]
    lane: Hashable

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call()
        except BaseException as error:  # it is the future's
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


@dataclass(slots=True)
class _Lane:
    busy: int = 0
    waiting: deque[_Job] = field(default_factory=deque)


Inbox = queue.SimpleQueue["_Job | None"]


class LaneThreads(ThreadPoolExecutor):
    """A loop's default executor; asyncio wants it to be of that class, whose own threads are never started.

    A lane has LANE_THREADS at once and the rest of it waits, but for what a thread of the same lane asks for: that
    thread waits for it, so it starts at once. The threads are daemons: one that never ends does not keep the process.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, _Lane] = {}
        self._idle: list[Inbox] = []
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Runs a call in a thread of the current lane, which others cannot use up. Raises RuntimeError after shutdown."""
        name = LANE.get()
        if isinstance(context := getattr(getattr(fn, "func", None), "__self__", None), Context):
            context.run(_INSIDE.set, name)  # of `partial(copy_context().run, …)`: asyncio's and LangChain's form
        job = _Job(Future(), lambda: fn(*args, **kwargs), name)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            lane = self._lanes.setdefault(name, _Lane())
            if lane.busy >= LANE_THREADS and _INSIDE.get() != name:
                lane.waiting.append(job)
            else:
                self._start(job)
                lane.busy += 1
        return job.future

    def busy_lanes(self) -> list[Hashable]:
        """For any thread."""
        return list(self._lanes)

    def _start(self, job: _Job) -> None:
        if self._idle:
            self._idle.pop().put(job)
            return
        threading.Thread(target=self._work, args=(job,), name="lane", daemon=True).start()

    def _work(self, job: _Job | None) -> None:
        inbox: Inbox = queue.SimpleQueue()
        while job:
            job.run()
            job = self._next(job.lane, inbox)

    def _next(self, name: Hashable, inbox: Inbox) -> _Job | None:
        """What this thread does after a job of that lane; None when nothing comes."""
        with self._lock:
            lane = self._lanes[name]
            if lane.waiting and lane.busy <= LANE_THREADS:
                return lane.waiting.popleft()
            lane.busy -= 1
            if not lane.busy:
                del self._lanes[name]
            if self._closed:
                return None
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # the base class's
        """Ends idle threads. Waits for none: a sync node may never end."""
        with self._lock:
            self._closed = True
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()
            waiting = [job for lane in self._lanes.values() for job in lane.waiting]
            for lane in self._lanes.values():
                lane.waiting.clear()
        if wait or cancel_futures:
            for job in waiting:
                job.future.cancel()
