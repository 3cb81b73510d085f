"""Replicas and commands as forks of one process that has imported the service: 0.3 s of CPU each to start instead of 2.5.

They are processes as any other: of their own memory, killed and paused alone, with an exit code. A replica whose own environment
changes how a process begins (LD_PRELOAD), or whose memory is counted (of a fork, libraries count once they are touched), is
started anew: see `Replica.start`.
"""

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import NamedTuple

IMPORTED = ("agent_service.cli", "agent_service.main", "langgraph.graph", "langchain_openai", "langgraph.checkpoint.postgres.aio")
"""No module of a test's graph: such a module may read its environment when it is imported."""


class Request(NamedTuple):
    arguments: list[str]
    env: dict[str, str]
    log: str


class Process:
    """What of `asyncio.subprocess.Process` replicas use, in any loop."""

    def __init__(self) -> None:
        self.started: Future[int] = Future()
        self.ended: Future[int] = Future()
        for future in (self.started, self.ended):
            future.set_running_or_notify_cancel()  # who waits may be cancelled; the process goes on

    @property
    def pid(self) -> int:
        return self.started.result()

    @property
    def returncode(self) -> int | None:
        return self.ended.result() if self.ended.done() else None

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


class Warm:
    """The process that forks. It and its forks end with this one."""

    def __init__(self) -> None:
        code = "from tests.support.warm import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._lock = threading.Lock()
        self._asked: list[Process] = []
        self._running: dict[int, Process] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
        """`slipway` with exactly this environment; returns once it is a process."""
        process = Process()
        with self._lock:
            self._asked.append(process)
            assert self._process.stdin
            self._process.stdin.write(json.dumps(Request([*arguments], dict(env), str(log))).encode() + b"\n")
            self._process.stdin.flush()
        process.started.result(60)
        return process

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            pid, *status = map(int, line.split())
            if status:
                self._running.pop(pid).ended.set_result(os.waitstatus_to_exitcode(status[0]))
            else:
                self._running[pid] = process = self._asked.pop(0)
                process.started.set_result(pid)


@cache
def warm() -> Warm:
    """One for each worker of the tests; it is started when the first replica is."""
    return Warm()


def slipway(*arguments: str, log: Path, **env: str) -> tuple[int, str]:
    """Exit code of a command, and what it said."""
    code = warm().start(arguments, env, log).ended.result(60)
    return code, log.read_text(encoding="utf-8")


def main() -> None:
    """Imports the service, forks for each line of standard input, and is `slipway` in each fork."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the forks' collector leaves alone what they share
    asked, told = os.dup(0), os.dup(1)
    request = _fork_for_each(asked, told)
    if request is None:
        return
    os.environ.clear()
    os.environ.update(request.env)
    log = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, number)
    faulthandler.enable()
    sys.argv[1:] = request.arguments
    importlib.import_module("agent_service.cli").main()


def _fork_for_each(asked: int, told: int) -> Request | None:
    """Returns the request in a fork, and None in this process once nobody can ask any more."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: set[int] = set()
    for line in _lines(asked, woken, told, running):
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (asked, told, woken, wake):
                os.close(number)
            return Request(*json.loads(line))
        running.add(pid)
        os.write(told, b"%d\n" % pid)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _lines(asked: int, woken: int, told: int, running: set[int]) -> Iterator[bytes]:
    """Each line that is asked; tells of the forks that end meanwhile."""
    held = b""
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid, status in _ended(running):
                with contextlib.suppress(BrokenPipeError):
                    os.write(told, b"%d %d\n" % (pid, status))
        if asked in ready:
            got = os.read(asked, 65_536)
            if not got:
                return
            *lines, held = (held + got).split(b"\n")
            yield from lines


def _ended(running: set[int]) -> Iterator[tuple[int, int]]:
    for pid in [*running]:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            running.discard(pid)
            yield pid, status
