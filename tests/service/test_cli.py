"""The `slipway` command: its help, its output, its exit codes."""

import asyncio
import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from agent_service.auth.api_keys import ApiKeys
from agent_service.cli import main
from agent_service.settings import Settings
from tests.support import warm
from tests.support.commands import command_paths
from tests.support.service import running_service

DONE, FAILED, WRONG, PARTIAL = 0, 1, 2, 3


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def slipway(*args: str, **env: str) -> Result:
    return CliRunner().invoke(main, args, env=env)


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_help_tells_what_it_does_and_gives_an_example(path: tuple[str, ...]) -> None:
    result = slipway(*path, "--help")
    assert result.exit_code == DONE
    assert "Example:" in result.output
    assert f"slipway {' '.join(path)}" in result.output.partition("Example:")[2]


def test_serve_help_lists_every_setting() -> None:
    text = slipway("serve", "--help").output
    assert [name for name in Settings.model_fields if f"  {name.upper()}  [" not in text] == []


def test_a_group_lists_its_own_commands_only() -> None:
    assert "doctor" in slipway("--help").output
    assert "doctor" not in slipway("keys", "--help").output
    assert slipway("keys", "doctor").exit_code == WRONG


def test_a_bare_call_and_an_unknown_command_say_what_there_is() -> None:
    assert "serve" in slipway("--help").output
    unknown = slipway("serv")
    assert unknown.exit_code == WRONG
    assert "serv" in unknown.stderr


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "AUTH=required needs"),
        ({"AUTH": "maybe"}, "AUTH"),
        ({"AUTH": "disabled", "HOST": "0.0.0.0"}, "AUTH=disabled"),  # an address that others reach
        ({"AUTH": "disabled", "PORT": "eighty"}, "PORT"),
        ({"AUTH": "disabled", "AGENT_GRPAH": "x:y"}, "AGENT_GRPAH"),
        ({"AUTH": "disabled", "MODEL": "gpt-4o"}, "MODEL"),
        ({"JWT_SECRET": "short"}, "JWT_SECRET"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(env: dict[str, str], named: str) -> None:
    result = slipway("serve", **env)
    assert result.exit_code == WRONG
    assert result.stderr.startswith("slipway: ")
    assert len(result.stderr.splitlines()) == 1
    assert named in result.stderr


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    folder = {"API_KEYS_DIR": str(tmp_path)}
    created = slipway("keys", "create", "--user", "alice", "--tenant", "acme", "--role", "admin", "--days", "30", **folder)
    assert created.exit_code == DONE, created.output
    key = created.stdout.strip()
    principal = ApiKeys(tmp_path).authenticate(key)
    assert principal
    assert (principal.label, principal.role) == ("acme/alice", "admin")

    (listed,) = json.loads(slipway("keys", "list", "--json", **folder).stdout)
    assert (listed["user"], listed["tenant"], listed["role"]) == ("alice", "acme", "admin")
    assert listed["expires_at"]
    table = slipway("keys", "list", "--dir", str(tmp_path)).stdout
    assert listed["id"] in table
    assert key.rpartition("_")[2] not in table + json.dumps(listed)

    assert slipway("keys", "revoke", listed["id"], **folder).exit_code == DONE
    assert ApiKeys(tmp_path).authenticate(key) is None
    assert json.loads(slipway("keys", "list", "--json", **folder).stdout) == []
    again = slipway("keys", "revoke", listed["id"], **folder)
    assert again.exit_code in {FAILED, WRONG}
    assert len(again.stderr.splitlines()) == 1


def test_keys_without_a_folder_or_with_a_bad_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # where no `slipway dev` has a folder
    assert slipway("keys", "list").exit_code == WRONG
    assert slipway("keys", "create", "--user", "", "--dir", str(tmp_path)).exit_code in {FAILED, WRONG}
    assert list(tmp_path.iterdir()) == []


def test_migrate_says_what_it_did_and_is_safe_to_run_twice(empty_database_url: str) -> None:
    first = slipway("migrate", DATABASE_URL=empty_database_url)
    assert first.exit_code == DONE, first.output
    assert "applying 0001" in first.stdout
    assert slipway("migrate", DATABASE_URL=empty_database_url).stdout == "0 migrations applied; the schema is current\n"


def test_costs_are_everyones_as_a_table_and_as_json(database_url: str) -> None:
    async def spend() -> None:
        async with running_service(database_url) as service, service.client() as client:
            await client.post("/chat", json={"question": "hello"})

    empty = slipway("costs", DATABASE_URL=database_url)
    assert "no model calls" in empty.stdout
    asyncio.run(spend())

    rows = json.loads(slipway("costs", "--by", "user,model", "--json", DATABASE_URL=database_url).stdout)["rows"]
    assert [(row["user"], row["model"], row["runs"], row["cost_usd"]) for row in rows] == [("default/local", "offline", 1, 0.0)]
    assert "offline" in slipway("costs", DATABASE_URL=database_url).stdout
    wrong = slipway("costs", "--by", "colour", DATABASE_URL=database_url)
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (WRONG, 1)
    assert "colour" in wrong.stderr


def test_ingest_brings_documents_in_and_says_when_some_failed(database_url: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.pdf"
    good.write_text("# Drains\n\nA drain lets runs finish.\n")
    whole = slipway("ingest", str(good), "--json", DATABASE_URL=database_url)
    assert whole.exit_code == DONE, whole.output
    assert json.loads(whole.stdout)["ingested"] == 1

    bad.write_bytes(b"no pdf at all")
    (tmp_path / "photo.png").write_bytes(b"")
    partial = slipway("ingest", str(tmp_path), DATABASE_URL=database_url)
    assert partial.stderr.startswith("reading …\n"), "before the seconds that it takes"
    assert partial.exit_code == PARTIAL, partial.output
    assert partial.stdout.splitlines()[-2:] == [
        "1 ingested (1 passages), 0 unchanged, 1 skipped, 1 failed",
        "  skipped 1: unknown kind .png",
    ]
    assert partial.stderr.splitlines()[-1] == f"  {bad}: not a readable PDF (PdfStreamError)"
    told = json.loads(slipway("ingest", str(tmp_path), "--json", DATABASE_URL=database_url).stdout)
    assert (told["unchanged"], told["skipped_count"], [item["path"] for item in told["failed"]]) == (1, 1, [str(bad)])
    assert told["skipped"] == [{"path": str(tmp_path / "photo.png"), "reason": "unknown kind .png"}]
    assert "3  some files could not be read" in slipway("ingest", "--help").stdout
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) > 0 FROM slipway.passages").fetchone() == (True,)
    assert slipway("ingest", str(tmp_path / "nowhere"), DATABASE_URL=database_url).exit_code == WRONG


@pytest.mark.xdist_group("warm")
def test_a_database_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for command in ("migrate", "costs"):
        url = f"postgresql:///x?host={tmp_path}&connect_timeout=1"
        code, said = warm.slipway(command, log=tmp_path / command, DATABASE_URL=url)  # a process: libraries may speak, too
        assert code == FAILED
        assert len(said.splitlines()) == 1, said
        assert said.startswith("slipway: database: ")


def test_a_job_beside_the_service_needs_no_langgraph_json(empty_database_url: str) -> None:
    assert slipway("migrate", DATABASE_URL=empty_database_url, LANGGRAPH_CONFIG="/none/langgraph.json").exit_code == DONE


ONE_GRAPH = '{"graphs": {"a": "./a.py:graph"}}'


@pytest.mark.parametrize(
    ("files", "env", "told"),
    [
        ({"langgraph.json": "{"}, {}, "LANGGRAPH_CONFIG=langgraph.json: not JSON"),
        ({"langgraph.json": ONE_GRAPH}, {}, "graphs.a=./a.py:graph: no such file"),
        ({"langgraph.json": ONE_GRAPH, "a.py": "graph = (\n"}, {}, "a.py:1)"),
        ({"langgraph.json": ONE_GRAPH, "a.py": "grap = 1"}, {}, "has no 'graph' (did you mean grap?)"),
        ({}, {"LANGGRAPH_CONFIG": "none.json"}, "LANGGRAPH_CONFIG=none.json: no such file"),
        ({}, {"AGENT_GRAPH": "./none.py:graph"}, "AGENT_GRAPH=./none.py:graph: no such file"),
        ({}, {"AGENT_GRAPH": "no graph"}, "AGENT_GRAPH: expected package.module:attribute or ./path/file.py:attribute"),
        ({}, {"AGENT_GRAPH_DIR": "none"}, "AGENT_GRAPH_DIR=none: no such folder"),
    ],
)
def test_dev_names_a_wrong_graph_before_it_starts_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], env: dict[str, str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANGGRAPH_CONFIG", "")  # `dev` sets it where it finds the file
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    result = slipway("dev", **env)

    assert result.exit_code == WRONG
    assert told in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / ".slipway").exists()
