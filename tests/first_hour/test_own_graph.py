"""A graph of one's own: `slipway init`, an edit, and the next answer is the new one."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent_service.cli import main
from tests.support.dev import READY_SECONDS, Dev, project_folder, running_dev, wait_for

QUESTION = "When are you open on Monday?"

WAITING = """
    from pathlib import Path
    from time import sleep
    Path("begun").touch()
    while not Path("go").exists():
        sleep(0.05)
    asked ="""
"""Of a tool whose run is going while its file changes."""

RAISES = '    raise RuntimeError("the till is empty")\n    asked ='


@pytest.mark.timeout(900)
def test_a_changed_file_is_served_by_the_next_run_and_a_broken_one_answers_with_its_line() -> None:
    with project_folder() as folder:
        project = folder / "my-agent"
        made = CliRunner().invoke(main, ["init", str(project)])
        assert made.exit_code == 0, made.output
        own_tests = subprocess.run([sys.executable, "-m", "unittest"], cwd=project, capture_output=True, text=True, check=False)
        assert own_tests.returncode == 0, own_tests.stderr
        source = (project / "agent.py").read_text()

        with running_dev(project, "--reload") as dev, ThreadPoolExecutor() as threads:
            assert "closed" in told(dev)

            save(dev, source.replace("    asked =", WAITING))
            going = threads.submit(told, dev)
            wait_for((project / "begun").exists)
            save(dev, source.replace('"monday": "closed"', '"monday": "open at night"'))
            assert "open at night" in told(dev)
            (project / "go").touch()
            assert "closed" in going.result(READY_SECONDS)

            save(dev, source + "\ndef (:\n", "is broken")
            line = len(source.splitlines()) + 2
            assert f"agent.py:{line})" in told(dev)
            assert f"agent.py:{line})" in dev.log
            assert "SyntaxError" in told(dev)

            save(dev, source.replace("    asked =", RAISES))
            raised = source.splitlines().index(next(each for each in source.splitlines() if each.startswith("    asked ="))) + 1
            assert "the till is empty" in told(dev)
            assert f"agent.py:{raised}" in told(dev)

            save(dev, source)
            assert "closed" in told(dev)


def told(dev: Dev) -> str:
    """The answer, or what is wrong."""
    return dev.ask(QUESTION).text


def save(dev: Dev, text: str, told_by: str = "reloaded (") -> None:
    """As an editor does; returns once the terminal says what came of it."""
    before = dev.log.count(told_by)
    (dev.folder / "agent.py").write_text(text)
    wait_for(lambda: dev.log.count(told_by) > before)


@pytest.mark.parametrize("name", ["", "no name", "-x", "full", "full/file"])
def test_init_writes_over_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))

    result = CliRunner().invoke(main, ["init", "--", name])

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
