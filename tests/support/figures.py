"""What tests measure, as lines of a summary at the end: also of the workers of xdist, and of tests that passed."""

from collections.abc import Callable
from typing import Any

import pytest

Report = Callable[[str], None]

FIGURES = "figures"


class Figures:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker hands its lines over."""
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output[FIGURES] = self.lines

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.lines += getattr(node, "workeroutput", {}).get(FIGURES, [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.lines:
            terminalreporter.section("what was measured")
            for line in sorted(self.lines):
                terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """Adds a line, which begins with what it is about; with `-s` it is printed at once, too."""
    figures = pytestconfig.pluginmanager.get_plugin(FIGURES)
    assert isinstance(figures, Figures)

    def write(line: str) -> None:
        print(line)  # noqa: T201  # `make e2e` takes long, and does not capture
        figures.lines.append(line)

    return write
