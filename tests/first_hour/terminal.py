"""A clone in an empty home, and a terminal in it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.dev import READY_SECONDS

INSTALL_SECONDS = 900.0
"""For the packages too, which took 92 s on two idle cores."""

KEPT = ("PATH", "LANG", "TMPDIR", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""What a new user's shell has as well; and what leads pip to its index."""


class Started:
    """A command that goes on. `log` holds both of what it writes."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def until(self, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Raises TimeoutError, and RuntimeError when the command ends before."""
        async with asyncio.timeout(seconds):
            while not condition():
                if self.process.returncode is not None:
                    raise RuntimeError(f"exit code {self.process.returncode}: {self.log[-3000:]}")
                await asyncio.sleep(0.05)

    async def ready(self, seconds: float = READY_SECONDS) -> str:
        """Waits for the address that it prints."""
        mark = "Slipway is ready: "
        await self.until(lambda: mark in self.log, seconds)
        return self.log.partition(mark)[2].split()[0]

    async def ctrl_c(self) -> int:
        """As the terminal sends it: to all that the command started."""
        os.killpg(self.process.pid, signal.SIGINT)
        async with asyncio.timeout(READY_SECONDS):
            return await self.process.wait()

    async def end(self) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


class Terminal:
    """`folder` is the clone; `env` is what was exported."""

    def __init__(self, folder: Path, home: Path, **env: str) -> None:
        self.folder = folder
        outside = {name: value for name, value in os.environ.items() if name.upper() in KEPT or name.startswith("PIP_")}
        path = [each for each in os.environ["PATH"].split(os.pathsep) if not Path(each).is_relative_to(sys.prefix)]
        interpreter = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        self.env = {**outside, "PATH": os.pathsep.join(path), "HOME": str(home), "PYTHON": interpreter, **env}
        self._started: list[Started] = []

    async def start(self, line: str, **env: str) -> Started:
        """Types a line, and goes on while it runs."""
        log = self.folder.parent / f"terminal-{len(self._started)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", line, cwd=self.folder, env={**self.env, **env}, stdout=output, stderr=output, start_new_session=True
            )
        self._started.append(Started(process, log))
        return self._started[-1]

    async def run(self, line: str, *, code: int = 0) -> str:
        """Types a line and waits for its end; returns what it wrote."""
        started = await self.start(line)
        async with asyncio.timeout(READY_SECONDS):
            got = await started.process.wait()
        if got != code:
            raise RuntimeError(f"{line}: exit code {got}, not {code}: {started.log[-3000:]}")
        return started.log

    async def close(self) -> None:
        for each in self._started:
            await each.end()


@asynccontextmanager
async def terminal_in_a_clone(root: Path, folder: Path, **env: str) -> AsyncIterator[Terminal]:
    """The files of `root` that are or may be committed, copied into `folder`; everything that was started is ended."""
    (folder / "home").mkdir()
    await asyncio.to_thread(_clone, root, folder / "slipway")
    terminal = Terminal(folder / "slipway", folder / "home", **env)
    try:
        yield terminal
    finally:
        await terminal.close()


def _clone(root: Path, target: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target / name)
