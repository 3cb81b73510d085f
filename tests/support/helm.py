"""Releases of a chart by the helm program, in a namespace of the tests."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Namespace

Values = dict[str, Any]

READY_SECONDS = 300
"""An installation takes 15 s on two idle cores; with eight developers at work, ten times as long was seen."""


@dataclass(frozen=True, slots=True)
class Release:
    namespace: Namespace
    name: str
    chart: Path

    def upgrade(self, values: Values, *options: str, chart: Path | None = None) -> None:
        """Installs or upgrades with exactly these values, and waits until everything is ready."""
        command = ["upgrade", "--install", self.name, str(chart or self.chart), "--values=-", *self._waiting(), *options]
        helm(self.namespace, *command, stdin=json.dumps(values))

    def rollback(self) -> None:
        """To the revision before the last one."""
        helm(self.namespace, "rollback", self.name, *self._waiting())

    def uninstall(self) -> None:
        """With what it has outside of its namespace."""
        helm(self.namespace, "uninstall", self.name, "--wait")

    def test(self) -> str:
        """Runs the chart's own tests; their output."""
        return helm(self.namespace, "test", self.name, "--logs", "--timeout=2m")

    def notes(self) -> str:
        return helm(self.namespace, "get", "notes", self.name)

    def _waiting(self) -> list[str]:
        return ["--wait", f"--timeout={READY_SECONDS}s"]


def helm(namespace: Namespace, *args: str, stdin: str | None = None) -> str:
    """Output of helm; an AssertionError with its message and the state of the pods when it fails."""
    program = shutil.which("helm")
    if not program:
        pytest.skip("needs helm")
    done = subprocess.run(
        [program, "--namespace", namespace.name, *args], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"helm {' '.join(args)}: {done.stdout}{done.stderr}\n{namespace.describe()}")
    return done.stdout
