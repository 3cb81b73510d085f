"""`slipway dev` in an empty folder: the other commands find what it runs, and what it started ends with it."""

import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent_service.cli import main
from agent_service.settings import Settings
from tests.support.dev import processes_of, project_folder, running_dev, wait_for

FAILED = 1


def slipway(*args: str) -> Result:
    return CliRunner().invoke(main, args, env={name.upper(): "" for name in Settings.model_fields})


@pytest.mark.timeout(600)
def test_the_other_commands_find_it_and_nothing_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with project_folder() as folder:
        (folder / ".env").write_text("AGENT_DESCRIPTION=by the file\n")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "notes.md").write_text("# Notes\n\nThe harbour opens at seven.\n")
        with running_dev(folder) as first, running_dev(folder) as second:
            assert first.ask("hello").status_code == 200
            monkeypatch.chdir(folder / "deep" / "er")  # found as a repository is, from a folder within
            look_around(folder)
            assert first.end(signal.SIGTERM) == 0
            assert second.ask("hello again").status_code == 200  # their PostgreSQL is the second one's now
            os.kill(second.process.pid, signal.SIGKILL)
            wait_for(lambda: not processes_of(folder))

        gone = slipway("costs")
        assert gone.exit_code == FAILED
        assert "no `slipway dev` runs in this folder: start it" in gone.stderr


def look_around(folder: Path) -> None:
    """With each kind of command, and no word of where the database is."""
    rows = json.loads(slipway("costs", "--by", "model", "--json").stdout)["rows"]
    assert [(row["model"], row["runs"]) for row in rows] == [("offline", 1)]
    assert json.loads(slipway("ingest", "../notes.md", "--json").stdout)["ingested"] == 1
    assert slipway("keys", "create", "--user", "me", "--role", "ADMIN").exit_code == 0
    (key,) = json.loads(slipway("keys", "list", "--json").stdout)
    assert (key["user"], key["role"]) == ("me", "admin")
    assert slipway("budgets", "set", "--user", "me", "--usd", "1").exit_code == 0
    assert slipway("prune", "--dry-run").exit_code == 0
    examined = {check["id"]: check["status"] for check in json.loads(slipway("doctor", "--json").stdout)["checks"]}
    assert {examined[name] for name in ("Ready", "TokenRequired", "DatabaseEncrypted", "Encrypted")} == {"ok"}
    assert (folder / ".slipway" / "running.json").stat().st_mode & 0o077 == 0
