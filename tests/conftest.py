"""Fixtures that every folder shares: a real PostgreSQL, and logs as the service writes them."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from agent_service.child_processes import Workers
from tests.support.figures import FIGURES, Figures, report  # noqa: F401  # pytest finds it here
from tests.support.no_skips import pytest_sessionfinish  # noqa: F401  # likewise
from tests.support.postgres import ensure_template, fresh_database, start_server

# No deadline: on a busy machine the first example may take long. In CI the same examples each time.
hypothesis.settings.register_profile("slipway", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("slipway")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing here speaks TLS, and to read the 140 authorities of the world takes each HTTP client 35 ms of CPU."""
    config.pluginmanager.register(Figures(), FIGURES)
    os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "data" / "authority.pem")


SLOW = ("attack", "durability", "first_hour", "integration/page")
"""Folders whose tests kill, flood and drive a browser: a twentieth of the tests, and two fifths of the time."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Folders of which `-m` leaves out all are not read: to import them takes each worker a second of CPU."""
    left_out = [part.removeprefix("not ") for part in config.option.markexpr.split(" and ") if part.startswith("not ")]
    whole = {"slow": SLOW, "e2e": ("e2e",)}
    folder = collection_path.relative_to(Path(__file__).parent).as_posix() if collection_path.is_dir() else ""
    return True if any(folder in whole.get(mark, ()) for mark in left_out) else None


@pytest.hookimpl(tryfirst=True)  # before `-m` picks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow ones. Those that may take longer than the usual limit begin first: the last one keeps all waiting."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SLOW):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_collection() -> None:
    """Of what is imported now nothing is garbage: to look for it takes each worker a second."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is here by now stays to the end: the collector need not look at it, and, as in the service, seldom at the rest."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _logs_without_locals() -> None:
    """Structlog's default prints the locals of every frame: 3 s of CPU for one exception."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False),
        ]
    )


@pytest.fixture(scope="session")
def admin_url(testrun_uid: str) -> str:
    """The server's address; all xdist workers share one."""
    url = start_server(testrun_uid)
    ensure_template(url)
    return url


@pytest.fixture
def database_url(admin_url: str) -> Iterator[str]:
    """A fresh, migrated database."""
    with fresh_database(admin_url) as url:
        yield url


@pytest.fixture
def empty_database_url(admin_url: str) -> Iterator[str]:
    """A fresh database without a schema."""
    with fresh_database(admin_url, template="template0") as url:
        yield url


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Child processes for parsers: they take a second to start."""
    opened = Workers()
    yield opened
    opened.close()
