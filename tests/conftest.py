"""Fixtures that every folder shares: a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import ensure_template, fresh_database, start_server


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
