"""The adoption works with each langchain-openai that service/pyproject.toml allows, and not only with the pinned one."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]

FILES = sorted((file.stem for file in (ROOT / "requirements/versions").glob("*.txt")), key=Version)

SUITE = ROOT / "tests/service/agents/test_adopt.py"

CORE = (
    "(an_answer_is_the_same and script0) or tool_calls_are_the_same or blocking_call_works_in_a_thread"
    " or usual_ways or keys_rotate or without_the_seam"
)
"""Both clients' answers, tool calls, threads, retries, keys, and a seam that is gone: what rests on the library's inside."""

RUN = """
import importlib.metadata, sys
found, wanted = importlib.metadata.version("langchain-openai"), sys.argv[1]
assert found == wanted, f"{found} is loaded, not {wanted}: make .venv/.dev"
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


def run_suite(release: str, *arguments: str) -> str:
    """What pytest says of test_adopt.py over that version."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["PYTHONPATH"] = str(Path(sys.prefix) / "versions" / release)
    command = [sys.executable, "-c", RUN, release, "-q", "-p", "no:xdist", str(SUITE), *arguments]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.OK, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("release", [FILES[0], FILES[-1]])
def test_the_seam_is_there(release: str) -> None:
    """In those at both ends: each takes 4 s of CPU. `make chaos` tries all of them."""
    assert " passed, " in run_suite(release, "-k", CORE)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("release", FILES)
def test_all_is_the_same(release: str) -> None:
    assert "failed" not in run_suite(release)


def test_the_versions_are_those_of_the_range() -> None:
    declared = tomllib.loads((ROOT / "service" / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    allowed = next(r for r in map(Requirement, declared) if r.name == "langchain-openai").specifier
    tried = {*FILES, version("langchain-openai")}
    assert all(allowed.contains(release) for release in tried)
    lowest = min(tried, key=lambda release: [int(part) for part in release.split(".")])
    assert f">={lowest.removesuffix('.0')}" == str(allowed)
