"""Who blocks the event loop? A thread that watches it finds the run, and gives the others to the peers in time.

A run whose node blocks the loop for longer than a lease costs its process all leases. That run is the crash; those beside
it are not, and neither is any when the process was only slow: stopped, starved, throttled. What tells them apart is time in
which the process ran and its loop did not: it is charged to the run whose task stood on the loop.

While C code holds the interpreter's lock (a regular expression) no thread runs, this one neither. It learns afterwards,
from the CPU time that was used, that somebody is guilty, and mostly still finds the task in its place. Until then, and
when the process dies, the peers decide alone: see `leases.CLAIM`.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import psycopg
import structlog
from psycopg import IsolationLevel

from agent_service.db.session_settings import Url, connect_string
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.notices import WORK_CHANNEL
from agent_service.runs.run_leases import GIVE_AWAY
from agent_service.threads import LANE, LaneThreads

log = structlog.stdlib.get_logger(__name__)

BLAMED_AFTER = 0.5
"""Of a lease. At least two thirds of it are left when a block begins, so a sixth remains to give the other runs away in."""

TICKS = 20
"""Looks at the loop in a lease: half of them in a row must find the same run there."""

MAX_TICK_SECONDS = 0.25

HELD_TICKS = 4
"""A look that comes so late, while the process used the CPU, was kept from the interpreter's lock."""

Runs = frozenset[LiveRun]


class Watchdog:
    """Watches the loop that it is made on, from `start` to `stop`."""

    def __init__(self, url: Url, live: LiveRuns, threads: LaneThreads, lease_seconds: float) -> None:
        self._url = url
        self._live = live
        self._threads = threads
        self._limit = lease_seconds * BLAMED_AFTER
        self._tick = min(lease_seconds / TICKS, MAX_TICK_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._make_task = self._loop.get_task_factory()
        self._owners: WeakKeyDictionary[asyncio.Task[Any], ref[LiveRun]] = WeakKeyDictionary()
        """Weak on both sides: a run knows its task, so each would keep the other for good, and all that the run has said."""
        self._answered = True
        self._charged: defaultdict[Runs, float] = defaultdict(float)
        """Seconds without an answer of the loop, by whom they are charged to."""
        self._clocks = _clocks()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """From now on tasks belong to the run that made them, and the thread looks."""
        self._loop.set_task_factory(self._task)  # type: ignore[arg-type]  # typeshed's is not the one that loops call
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and waits for it."""
        self._loop.set_task_factory(self._make_task)
        self._stopping.set()
        self._thread.join()

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        """A task belongs to the run that made it. `Task.get_context` would tell, but only since Python 3.12."""
        make: Callable[..., asyncio.Task[Any]] = self._make_task or _make_task  # type: ignore[assignment]  # likewise
        task = make(loop, coro, **options)
        context = options.get("context")
        owner = context.get(LANE) if context else LANE.get()
        if isinstance(owner, LiveRun):
            self._owners[task] = ref(owner)
        return task

    def _watch(self) -> None:
        clocks = self._clocks
        before: list[float] = [clock() for clock in clocks]
        while not self._stopping.wait(self._tick) and not self._loop.is_closed():
            now: list[float] = [clock() for clock in clocks]
            late, used, used_by_loop = (after - was for was, after in zip(before, now, strict=True))
            before = now
            try:
                self._look(late, used, used_by_loop)
            except Exception:
                log.exception("watchdog_failed")

    def _look(self, late: float, used: float, used_by_loop: float) -> None:
        """Charges what passed since the last look, in seconds: by the clock, of the CPU, and of it in the loop's thread."""
        guilty, seconds = self._account(late, used, used_by_loop)
        self._charged[guilty] += seconds
        if self._charged[guilty] >= self._limit:
            self._judge(guilty)
        if self._answered:
            self._charged.clear()
            self._answered = False
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered = True

    def _account(self, late: float, used: float, used_by_loop: float) -> tuple[Runs, float]:
        if late > HELD_TICKS * self._tick and used >= late / 2:
            in_threads = frozenset(run for run in self._threads.busy_lanes() if isinstance(run, LiveRun))
            return (self._on_loop() if used_by_loop >= used / 2 else in_threads), used
        return self._on_loop(), 0.0 if self._answered else min(late, 2 * self._tick)

    def _on_loop(self) -> Runs:
        """The run whose step is under way; nobody's in one of the service; all of them when it cannot be told."""
        task = None if self._answered else asyncio.current_task(self._loop)
        if task is None:
            return frozenset(self._live)
        of_task = self._owners.get(task)
        owner = of_task() if of_task else None
        return frozenset([owner]) if owner else frozenset()

    def _judge(self, guilty: Runs) -> None:
        for run in guilty:
            if run.forgivable:
                run.forgivable = False
                log.error("run_blocks_process", **run.run.ids, runs=len(self._live))
        others = [run for run in self._live if run.forgivable and run.said.state == "open"]
        if others and not self._answered:
            try:
                self._give_away(others)
            except psycopg.Error as error:  # the next look tries again
                log.warning("runs_not_given_away", error=type(error).__name__)

    def _give_away(self, runs: Sequence[LiveRun]) -> None:
        """Into the queue, as a drain would; nothing of it is a crash. Their writes from here on are refused."""
        keys = [run.run.id for run in runs], [run.run.attempt for run in runs]
        with psycopg.connect(connect_string(self._url), application_name="slipway-watchdog", prepare_threshold=None) as conn:
            conn.isolation_level = IsolationLevel.READ_COMMITTED
            given = {row[0] for row in conn.execute(GIVE_AWAY, keys)}
            conn.execute("SELECT pg_notify(%s, '')", (WORK_CHANNEL,))
        for run in runs:
            if run.run.id in given:
                run.forgivable = False  # no crash was counted
        log.warning("runs_given_away", reason="the event loop is blocked", runs=len(given))


def _make_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


def _clocks() -> tuple[Callable[[], float], Callable[[], float], Callable[[], float]]:
    """Real time, CPU time of the process, and of the calling thread from any other one."""
    if not hasattr(time, "pthread_getcpuclockid"):  # macOS
        return time.monotonic, time.process_time, time.process_time
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return time.monotonic, time.process_time, lambda: time.clock_gettime(clock)
