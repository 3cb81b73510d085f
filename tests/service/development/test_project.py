"""The project that `slipway init` makes; tests/first_hour runs it."""

from pathlib import Path

import pytest

from agent_service.development.project import make_project


@pytest.mark.parametrize(
    ("command", "python"),
    [
        ("slipway", "python"),
        ("../.venv/bin/slipway", "../.venv/bin/python"),
        ("'../my venv/bin/slipway'", "'../my venv/bin/python'"),
    ],
)
def test_its_readme_has_the_commands_as_they_are_typed_there(tmp_path: Path, command: str, python: str) -> None:
    make_project(tmp_path / "my-agent", command)

    readme = (tmp_path / "my-agent" / "README.md").read_text()
    assert f"`{command} dev --reload`" in readme
    assert f"`{python} -m unittest`" in readme


@pytest.mark.parametrize("command", ["/opt/venv/bin/slipway", "'/opt/my venv/bin/slipway'"])
def test_its_readme_has_no_path_of_this_machine(tmp_path: Path, command: str) -> None:
    make_project(tmp_path / "my-agent", command)

    readme = (tmp_path / "my-agent" / "README.md").read_text()
    assert "`slipway dev --reload`" in readme
    assert "/opt" not in readme


def test_every_file_that_its_image_copies_is_there(tmp_path: Path) -> None:
    files = make_project(tmp_path / "my-agent")

    dockerfile = (tmp_path / "my-agent" / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert {name for names in copied for name in names} == {"requirements.txt", "agent.py", "langgraph.json"}
    assert {name for names in copied for name in names} <= set(files)
