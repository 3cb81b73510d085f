"""Work that a hostile input may make endless, in processes that can be killed: parsers of SQL, PDF, HTML.

A thread cannot be stopped, and a parser in C or in a tight loop holds the interpreter's lock: probes, leases and streams of the
process would stop with it. A killed child costs its own answer and nothing else.
"""

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

P = ParamSpec("P")
T = TypeVar("T")

WORKERS: Final = 2
"""Children of one process. They start at the first call, and take about 60 MB each."""

WAIT_SECONDS: Final = 10.0
"""How long a call waits for one of them before it is given up: by then each is held by a call that is about to be killed."""

MEMORY_BYTES: Final = 2 * 2**30
"""Address space of a child: 50 MB of PDF take a quarter of it."""

PR_SET_PDEATHSIG: Final = 1
"""prctl(2): a signal to this process when its parent dies, also by `kill -9`."""


class GivenUp(Exception):
    """The work took too long, too much memory, or its process died; the text says which."""


class Workers:
    """A few child processes. Calls that are cancelled kill theirs."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(WORKERS)
        self._pool = ProcessPool(
            max_workers=WORKERS,
            initializer=_confine,
            initargs=(os.getpid(),),
            context=multiprocessing.get_context("spawn"),  # a fork of a process with threads may deadlock
        )

    async def call(self, seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, or raises, in a child. Function and arguments are pickled.

        Raises:
            GivenUp: it took longer than `seconds`, or there was no child to be had, or it died.
        """
        await self._place()
        try:
            return await asyncio.wrap_future(self._pool.schedule(function, args=args, kwargs=kwargs, timeout=seconds))
        except TimeoutError:
            raise GivenUp(f"it takes longer than {seconds:g} s") from None
        except (ProcessExpired, MemoryError):
            raise GivenUp("it takes too much memory") from None
        finally:
            self._places.release()

    async def _place(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise GivenUp("too much of this kind is going on; try again") from None

    def close(self) -> None:
        """Kills what still runs."""
        self._pool.stop()  # type: ignore[no-untyped-call]  # pebble's types end here
        self._pool.join()


@asynccontextmanager
async def open_workers() -> AsyncIterator[Workers]:
    workers = Workers()
    try:
        yield workers
    finally:
        workers.close()


def _confine(parent: int) -> None:
    """In the child: it ends with its parent, leaves Ctrl-C to it, and has so much memory and no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that took effect
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
