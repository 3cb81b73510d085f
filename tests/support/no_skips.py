"""With CI=true a skipped test is a failure: .ci/run installs what tests need, so that a skip there hides something."""

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI") != "true":  # a worker of xdist has no reporter
        return
    if skipped := len(reporter.stats.get("skipped", ())):
        reporter.write_line(f"\nCI=true: {skipped} skipped tests count as failures", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
