import sys
from pathlib import Path

import pytest

from agent_service.development.own_command import own_command


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / ".venv" / "bin" / "slipway"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(path)])
    monkeypatch.setenv("PATH", "/nowhere")
    return path


def test_off_path_it_is_typed_by_its_path_from_the_folder(command: Path, tmp_path: Path) -> None:
    assert own_command(tmp_path) == ".venv/bin/slipway"
    assert own_command(tmp_path / "my-agent") == "../.venv/bin/slipway"
    assert own_command(Path("/")) == str(command)[1:]


def test_one_far_away_is_typed_by_its_whole_path(command: Path, tmp_path: Path) -> None:
    assert own_command(tmp_path / "/".join("abcdefghijklmnopqrstuvwxyz" * 3)) == str(command)


def test_on_path_or_run_as_a_module_its_name_is_enough(command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(command.parent))
    assert own_command(tmp_path) == "slipway"

    monkeypatch.setattr(sys, "argv", ["/site-packages/agent_service/cli.py"])
    assert own_command(tmp_path) == "slipway"
