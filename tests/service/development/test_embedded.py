"""What a server leaves behind that died with its machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent_service.development.embedded import forget_dead


@pytest.mark.parametrize("mark", ["{own}\n/data\n1\n", "999999999\n", "", "no number\n"])
def test_a_mark_whose_number_is_no_postgres_of_today_is_removed(tmp_path: Path, mark: str) -> None:
    (tmp_path / "postmaster.pid").write_text(mark.format(own=os.getpid()))

    forget_dead(tmp_path)
    forget_dead(tmp_path)  # and nothing is missed where there is none

    assert list(tmp_path.iterdir()) == []


def test_the_mark_of_a_server_that_lives_stays(tmp_path: Path) -> None:
    program = tmp_path / "postgres"
    program.symlink_to(shutil.which("sleep") or "sleep")
    with subprocess.Popen([program, "600"]) as server:
        try:
            (tmp_path / "postmaster.pid").write_text(f"{server.pid}\n")
            forget_dead(tmp_path)
            assert (tmp_path / "postmaster.pid").exists()
        finally:
            server.kill()
