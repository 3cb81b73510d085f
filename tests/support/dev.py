"""`slipway dev` as a process of its own, in a folder of its own, on free ports."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.postgres import servers_folder

READY_SECONDS = 200.0
"""On a machine that has much else to do; 3 s on an idle one."""

CODE = "from agent_service.cli import main; main()"


class Dev:
    """A started one; `log` holds both of what it writes."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.folder = folder
        self._log = folder / f"dev-{time.monotonic_ns()}.log"
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PORT": "0", "OPS_PORT": "0", **env}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, "dev", *arguments], cwd=folder, env=environ, stdout=log, stderr=log
            )

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.process.poll() is not None or "Slipway is ready" in self.log)
        if self.process.poll() is not None:
            raise RuntimeError(f"exit code {self.process.returncode}: {self.log[-2000:]}")

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        return self.log.partition("Slipway is ready: ")[2].split()[0]

    def ask(self, question: str) -> httpx.Response:
        return httpx.post(f"{self.url}/chat", json={"question": question}, timeout=READY_SECONDS)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(READY_SECONDS)


@contextmanager
def running_dev(folder: Path, *arguments: str, **env: str) -> Iterator[Dev]:
    """A ready one; ended at the end, whatever happened."""
    dev = Dev(folder, *arguments, **env)
    try:
        dev.wait_until_ready()
        yield dev
    finally:
        dev.process.kill()
        dev.process.wait()


@contextmanager
def project_folder() -> Iterator[Path]:
    """Where PostgreSQL may be started: as root it is another user's, from whom pytest's folders are shut."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-dev-", dir=servers_folder()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        wait_for(lambda: not processes_of(folder))
        shutil.rmtree(folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def wait_for(condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    """Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.05)
