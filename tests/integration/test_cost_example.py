"""The worked example of the page on limits: its commands are typed as they stand there, and print what it says."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_service.runs.budgets import seconds_left
from tests.support.dev import READY_SECONDS, project_folder, wait_for
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/operations/cost-control.md"
BLOCK = re.compile(r"```sh\n(.*?)```(?:\s+```text\n(.*?)```)?", re.DOTALL)
"""Commands, and what they print where the page says so."""

MARK = "--- end of block"
EXAMPLE_SECONDS = 120.0
"""It takes 10 on an idle machine, five of which are slept."""


def blocks() -> list[tuple[str, str]]:
    text = PAGE.read_text(encoding="utf-8").partition("## A worked example\n")[2].partition("\n## ")[0]
    return [(commands, printed or "") for commands, printed in BLOCK.findall(text)]


class Clone:
    """A folder with what the example needs of a clone. Its ports are free ones."""

    def __init__(self, folder: Path) -> None:
        for name in (".venv", "tests"):
            (folder / name).symlink_to(ROOT / name)
        self._folder = folder
        self._ports = {port: str(free_port()) for port in ("9999", "8000", "9090")}
        path = f"{folder / '.venv/bin'}:{os.environ['PATH']}"
        self._env = {"PATH": path, "LANG": "C.UTF-8", "PORT": self._ports["8000"], "OPS_PORT": self._ports["9090"]}

    def _with_ports(self, commands: str) -> str:
        return re.sub("|".join(self._ports), lambda port: self._ports[port[0]], commands)

    @contextmanager
    def going_on(self, commands: str) -> Iterator[None]:
        """What the commands leave in the background, until the end of the block."""
        output = self._folder / "log"
        with output.open("wb") as log:
            line = ["bash", "-ec", f"{self._with_ports(commands)}\nwait"]
            started = subprocess.Popen(line, cwd=self._folder, env=self._env, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: started.poll() is not None or "Slipway is ready" in output.read_text(encoding="utf-8"))
            assert started.poll() is None, output.read_text(encoding="utf-8")
            yield
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(READY_SECONDS)

    def type(self, typed: list[str]) -> list[str]:
        """What each printed. They stand in one shell."""
        script = "".join(f"{self._with_ports(commands)}\necho '{MARK}'\n" for commands in typed)
        ran = subprocess.run(
            ["bash", "-u"],
            input=script,
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=EXAMPLE_SECONDS,
            check=True,
        )
        print(ran.stdout, ran.stderr)
        return ran.stdout.split(f"{MARK}\n")[:-1]


@pytest.mark.timeout(READY_SECONDS + EXAMPLE_SECONDS)
def test_each_command_of_the_worked_example_prints_what_the_page_says() -> None:
    if (left := seconds_left("user", datetime.now(UTC))) < EXAMPLE_SECONDS:
        time.sleep(left)  # a day's budget is spent in it
    (background, _), *rest = blocks()
    with project_folder() as folder:
        clone = Clone(folder)
        with clone.going_on(background):
            printed = clone.type([commands for commands, _ in rest])

    assert len([said for _, said in rest if said]) >= 5
    for (commands, expected), said in zip(rest, printed, strict=True):
        if expected:
            assert [line.rstrip() for line in said.splitlines()] == [line.rstrip() for line in expected.splitlines()], commands
