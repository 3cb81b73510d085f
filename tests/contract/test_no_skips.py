"""tests.support.no_skips, on a test run of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

ONE_SKIP = "import pytest\n\ndef test_it():\n    pytest.skip('no browser here')\n"


def run_pytest(folder: Path, ci: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_one.py").write_text(ONE_SKIP, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.support.no_skips",
        "--rootdir",
        str(folder),
        "-c",
        os.devnull,
        *options,
    ]
    # Without the plugins that are installed beside: they take a second to import, in each process.
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run([*command, str(folder)], env=env, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [[], ["-p", "xdist.plugin", "-n", "1"]], ids=["in-process", "xdist"])
def test_in_ci_a_skip_fails_the_run(tmp_path: Path, options: list[str]) -> None:
    done = run_pytest(tmp_path, "true", *options)

    assert done.returncode == 1
    assert "1 skipped tests count as failures" in done.stdout


def test_elsewhere_a_skip_is_fine(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, "").returncode == 0
