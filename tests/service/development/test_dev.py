"""What `slipway dev` sets by itself, what it honours, and what it refuses before anything is started."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent_service.cli import main
from agent_service.development.dev import development_variables
from agent_service.settings import Settings

KEY_SECRET = "x" * 32


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, and no settings."""
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")  # which `dev` may set, and is undone afterwards
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(monkeypatch: pytest.MonkeyPatch, **env: str) -> dict[str, str]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return development_variables(Path(".slipway"))


def test_without_anything_it_lets_in_whoever_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch) == {
        "AUTH": "disabled",
        "LOG_CONTENT": "on",
        "OFFLINE_WORDS_PER_SECOND": "30",
        "DEVELOPER_MODE": "on",
        "API_DOCS": "on",
    }


@pytest.mark.parametrize(
    "said", [{"AUTH": "Required", "JWT_SECRET": KEY_SECRET}, {"API_KEYS_DIR": "keys"}, {"JWT_JWKS_URL": "u"}]
)
def test_who_may_call_is_left_as_it_is_set(monkeypatch: pytest.MonkeyPatch, said: dict[str, str]) -> None:
    assert {"AUTH", "API_KEYS_DIR"} & found(monkeypatch, **said).keys() == set()


def test_required_alone_gets_a_folder_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, AUTH="required")["API_KEYS_DIR"] == ".slipway/keys"


def test_files_set_what_is_not_set_the_graphs_file_first(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    (here / "langgraph.json").write_text('{"graphs": {"a": "./a.py:g"}, "env": {"MODEL": "by-json", "AUTH": "required"}}')
    (here / ".env").write_text("MODEL=by-env\nCHEAP_MODEL='small one'\nLOG_LEVEL=debug\nJWT_SECRET=\n")

    variables = found(monkeypatch, LOG_LEVEL="error")

    assert variables["LANGGRAPH_CONFIG"] == "langgraph.json"
    assert (variables["MODEL"], variables["CHEAP_MODEL"], variables["AUTH"]) == ("by-json", "small one", "required")
    assert "LOG_LEVEL" not in variables


def test_a_graph_that_is_named_is_served_without_the_file(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    (here / "langgraph.json").write_text("{")
    assert "LANGGRAPH_CONFIG" not in found(monkeypatch, AGENT_GRAPH="./a.py:graph")


WRONG = 2


@pytest.mark.parametrize(
    ("env", "files", "told"),
    [
        ({"LOG_LEVEL": "loud"}, {}, "LOG_LEVEL"),
        ({"HOST": "0.0.0.0"}, {}, "AUTH=disabled"),
        ({"AUTH": "required", "JWT_SECRET": "short"}, {}, "JWT_SECRET"),
        ({"DATABASE_URL": "mysql://x"}, {}, "DATABASE_URL"),
        ({"HOST": "203.0.113.9", "JWT_SECRET": KEY_SECRET}, {}, "cannot listen on 203.0.113.9"),
        ({"PRICE_FILE": "none.yaml"}, {}, "PRICE_FILE"),
        ({"INPUT_RULES_FILE": "none.yaml"}, {}, "INPUT_RULES_FILE"),
        ({}, {".env": "A B=1\n"}, ".env: line 1: expected NAME=value"),
        ({}, {".env": "PORT=eighty\n"}, "PORT"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_started(
    here: Path, env: dict[str, str], files: dict[str, str], told: str
) -> None:
    for name, text in files.items():
        (here / name).write_text(text)

    with socket.create_server(("127.0.0.1", 0)) as taken:  # looked at last
        result = CliRunner().invoke(main, ["dev"], env={"PORT": str(taken.getsockname()[1]), **env})

    assert (result.exit_code, result.stdout) == (WRONG, "")
    assert len(result.stderr.splitlines()) == 1
    assert told in result.stderr
    assert not (here / ".slipway").exists()


@pytest.mark.parametrize("name", ["PORT", "OPS_PORT"])
def test_a_port_that_is_taken_is_told_with_what_to_do(here: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["dev"], env={"PORT": "0", "OPS_PORT": "0", name: port})

    assert result.exit_code == WRONG
    assert result.stderr == (
        f"slipway: {name}={port}: already in use on 127.0.0.1; stop what listens there, or set {name} to another port"
        " (0: any free one)\n"
    )
    assert not (here / ".slipway").exists()


def test_the_port_can_be_an_option(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["dev", "--port", port], env={"PORT": "0", "OPS_PORT": "0"})

    assert result.exit_code == WRONG
    assert f"PORT={port}: already in use" in result.stderr
    assert not (here / ".slipway").exists()
