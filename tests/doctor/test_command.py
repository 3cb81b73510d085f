"""The command: what it prints, its JSON, its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner, Result

import agent_service
from agent_service import cli
from agent_service.settings import Settings
from slipway_doctor.checks.finding import Area, Status
from slipway_doctor.command import doctor
from slipway_doctor.examination import WIDTH
from tests.support.ports import free_port

PASSED, FAILED, COULD_NOT_RUN = 0, 1, 2

GOOD = {"API_KEYS_DIR": ".", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}

SCHEMA = {
    "type": "object",
    "required": ["schema", "summary", "checks"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": 1},
        "summary": {
            "type": "object",
            "required": [status.value for status in Status],
            "additionalProperties": {"type": "integer"},
        },
        "checks": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "area", "status", "reason", "message", "fix"],
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "string", "pattern": "^[A-Z]"},
                    "area": {"enum": [area.value for area in Area]},
                    "status": {"enum": [status.value for status in Status]},
                    "reason": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
                    "message": {"type": "string", "minLength": 1},
                    "fix": {"type": "string"},
                },
            },
        },
    },
}
"""What scripts rely on: version 1 of the document."""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "otel_exporter_otlp_endpoint", "slipway_token", "slipway_other_token"):
        monkeypatch.delenv(name.upper(), raising=False)


def run(*args: str, **env: str) -> Result:
    return CliRunner().invoke(doctor, args, env=env)


def checks(result: Result) -> dict[str, dict[str, Any]]:
    return {check["id"]: check for check in json.loads(result.stdout)["checks"]}


def test_good_settings_pass() -> None:
    result = run("--local", "--strict", **GOOD)

    assert result.exit_code == PASSED, result.output
    assert "✗" not in result.output
    assert " 0 failed, 0 warnings" in result.output


def test_a_failed_check_comes_with_its_fix_and_exit_code_1() -> None:
    result = run("--local", **GOOD, AUTH="disabled")

    assert result.exit_code == FAILED
    assert "✗  AuthRequired" in result.output
    assert "→ remove AUTH=disabled" in result.output


def test_a_warning_fails_only_when_strict() -> None:
    assert run("--local", API_KEYS_DIR=".").exit_code == PASSED
    assert run("--local", "--strict", API_KEYS_DIR=".").exit_code == FAILED


def test_json_keeps_to_its_schema() -> None:
    result = run("--local", "--json", **GOOD, OPENAI_KEY_DIR="/nowhere", DRAIN_SECONDS="x")

    jsonschema.validate(json.loads(result.stdout), SCHEMA)
    found = checks(result)
    assert found["OPENAI_KEY_DIRReadable"]["reason"] == "FolderMissing"
    assert found["TimeoutsNested"]["status"] == "unknown"


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_lines_fit_the_terminal(columns: int) -> None:
    result = run("--local", OPENAI_KEY_DIR="/nowhere", AUTH="disabled", COLUMNS=str(columns))

    assert max(len(line) for line in result.output.splitlines()) <= min(columns, WIDTH)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--url", "http://127.0.0.1:9", "--token", "a", "--api-key-file", __file__),
        ("--local", "--replicas", "0"),
        ("--url", "http://127.0.0.1:9", "--api-key-file", "no-such-file"),
    ],
)
def test_wrong_arguments_are_refused(args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == COULD_NOT_RUN


def test_a_closed_port_is_one_line_and_exit_code_2() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run("--url", url)

    assert result.exit_code == COULD_NOT_RUN
    examining, error = result.stderr.splitlines()
    assert examining == f"examining {url} …"
    assert error.startswith(f"slipway: {url}")


def test_without_a_kubeconfig_it_says_so(tmp_path: Path) -> None:
    missing = str(tmp_path / "config")
    result = run("--release", "x", KUBECONFIG=missing, HOME=str(tmp_path), KUBERNETES_SERVICE_HOST="")

    assert result.exit_code == COULD_NOT_RUN
    assert "no cluster is configured" in result.stderr


def test_no_token_is_shown_in_help_or_errors() -> None:
    result = run("--url", f"http://127.0.0.1:{free_port()}", SLIPWAY_TOKEN="sk-secret")

    assert "sk-secret" not in result.output + run("--help", SLIPWAY_TOKEN="sk-secret").output


def test_the_service_s_command_has_it_too() -> None:
    listed, shown = CliRunner().invoke(cli.main, ["--help"]), CliRunner().invoke(cli.main, ["doctor", "--help"])

    assert "\n  doctor " in listed.output
    assert "slipway doctor --release" in shown.output.partition("Example:")[2]


def test_a_service_without_the_doctor_s_package_says_how_to_get_it(tmp_path: Path) -> None:
    for entry in Path(click.__file__).parent.parent.iterdir():
        if not entry.name.startswith("slipway_doctor"):
            (tmp_path / entry.name).symlink_to(entry)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(agent_service.__file__).parent.parent}"}

    def typed(word: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-c", "from agent_service.cli import main; main()", word]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    shown, called = typed("--help"), typed("doctor")

    assert (shown.returncode, "doctor" in shown.stdout) == (0, True), shown.stderr
    assert called.returncode == COULD_NOT_RUN
    assert (
        called.stderr
        == "slipway: doctor needs the package slipway-doctor (doctor/ of the repository): pip install slipway-doctor\n"
    )
