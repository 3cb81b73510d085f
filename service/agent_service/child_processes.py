"""Work that a hostile input may make endless, in processes that can be killed: parsers of SQL, PDF, HTML.

A thread cannot be stopped, and a parser in C or in a tight loop holds the interpreter's lock: probes, leases and streams of the
process would stop with it. A killed child costs its own answer and nothing else.

Two walls, for either may fail: this process kills a child at its deadline, by the monotonic clock; and the kernel kills it when
it has used its CPU time, also where this process is stopped itself.
"""

import asyncio
import ctypes
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

import structlog
from pebble import ProcessExpired, ProcessPool

log = structlog.stdlib.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WORKERS: Final = 2
"""Children of one process, which start when they are needed. Each has 31 MB of its own with SQL read, 63 MB with a PDF:
`pytest -s tests/attack/test_children.py -k memory`."""

WAIT_SECONDS: Final = 10.0
"""How long a call waits for one of them before it is refused."""

MEMORY_BYTES: Final = 2 * 2**30
"""Address space of a child: 50 MB of PDF take a quarter of it."""

CLOSE_SECONDS: Final = 5.0
"""A child dies at once; only one that is stopped (SIGSTOP) takes pebble three seconds more."""

PR_SET_PDEATHSIG: Final = 1
"""prctl(2): a signal to this process when its parent dies, also by `kill -9`."""


class GivenUp(Exception):
    """The work took too long, too much memory, or its process died; the text says which."""


class Busy(GivenUp):
    """There was no child to be had. It says nothing of the work, which may be tried again."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one call may take: `seconds` by the clock, a child's start included, and whole `cpu_seconds` of the CPU."""

    seconds: float
    cpu_seconds: int


class Workers:
    """A few child processes. Calls that are cancelled kill theirs."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(WORKERS)
        # One child to a pool: pebble's children share a pipe and its lock, and one that is killed while it holds it stops all.
        self._idle: list[ProcessPool] = []
        self._ending: set[threading.Thread] = set()

    async def call(self, allowance: Allowance, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, or raises, in a child. Function and arguments are pickled.

        Raises:
            Busy: every child is taken.
            GivenUp: it took more than it may, or its child died.
        """
        await self._place()
        try:
            # What kills an idle child (the kernel, for memory) is noticed by the next call, and is not its fault.
            while self._idle:
                try:
                    return await self._call(self._idle.pop(), allowance, function, args, kwargs)
                except BrokenProcessPool:
                    continue
            try:
                return await self._call(_new_pool(), allowance, function, args, kwargs)
            except BrokenProcessPool:
                raise GivenUp("its process died") from None
        except GivenUp as error:
            log.warning("child_process_given_up", function=function.__qualname__, reason=str(error))
            raise
        finally:
            self._places.release()

    async def _call(
        self,
        pool: ProcessPool,
        allowance: Allowance,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> T:
        """Leaves the pool idle when its child is as good as before, and ends it otherwise."""
        good = False
        try:
            work = _schedule(pool, allowance.cpu_seconds, function, args, kwargs)
            if not (await asyncio.wait([work], timeout=allowance.seconds))[0]:
                work.cancel()
                raise GivenUp(f"it takes longer than {allowance.seconds:g} s")
            match work.exception():
                case MemoryError():
                    raise GivenUp(f"it takes more than {MEMORY_BYTES // 2**20} MB of memory") from None
                case ProcessExpired() as error:
                    raise GivenUp(_cause(error.exitcode, allowance)) from None
                case BrokenProcessPool() as error:
                    raise error
            good = True
            return work.result()
        finally:
            if good:
                self._idle.append(pool)
            else:
                self._end(pool)

    async def _place(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise Busy("others of this kind are going on; try again") from None

    def _end(self, pool: ProcessPool) -> None:
        """Kills its child, in a thread: pebble waits for it, and for ever on a pipe that a dead one left half written."""
        pool.stop()  # type: ignore[no-untyped-call]  # pebble's types end here
        self._ending = {thread for thread in self._ending if thread.is_alive()}
        thread = threading.Thread(target=pool.join, name="end-child", daemon=True)
        thread.start()
        self._ending.add(thread)

    def close(self) -> None:
        """Kills what is left. Calls that are still going on are cancelled before."""
        while self._idle:
            self._end(self._idle.pop())
        for thread in self._ending:
            thread.join(CLOSE_SECONDS)


@asynccontextmanager
async def open_workers() -> AsyncIterator[Workers]:
    """Child processes for as long as the context is open; those that still work are killed at its end."""
    workers = Workers()
    try:
        yield workers
    finally:
        workers.close()


def _new_pool() -> ProcessPool:
    return ProcessPool(
        max_workers=1,
        initializer=_confine,
        initargs=(os.getpid(),),
        context=multiprocessing.get_context("spawn"),  # a fork of a process with threads may deadlock
    )


def _schedule(
    pool: ProcessPool, cpu_seconds: int, function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> asyncio.Future[T]:
    """Without pebble's own timeout: it goes by the wall clock, which jumps.

    Raises:
        BrokenProcessPool: the child died while it was idle.
    """
    try:
        return asyncio.wrap_future(pool.schedule(_measured, args=(cpu_seconds, function, args, kwargs)))
    except RuntimeError as error:
        raise BrokenProcessPool(str(error)) from None


def _cause(code: int, allowance: Allowance) -> str:
    """What a child's exit code tells."""
    match -code:
        case signal.SIGXCPU:
            return f"it takes more than {allowance.cpu_seconds} s of CPU time"
        case signal.SIGKILL:
            return "its process was killed, as happens where memory runs out"
        case number if number in signal.valid_signals():
            return f"its process crashed ({signal.Signals(number).name})"
    return f"its process died (exit code {code})"


def _confine(parent: int) -> None:
    """In the child: it ends with its parent, leaves Ctrl-C to it, and has so much memory and no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that took effect
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # pebble's handler is Python, which does not run while C code holds the interpreter: the child would live 3 s longer.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _measured(cpu_seconds: int, function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T:
    """In the child: SIGXCPU, which Python does not catch, ends it after so much CPU time from now on, and not between calls."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime) + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if most == resource.RLIM_INFINITY else min(soft, most), most))
    try:
        return function(*args, **kwargs)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
