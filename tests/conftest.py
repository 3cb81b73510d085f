"""Fixtures that every folder shares: a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import ensure_template, fresh_database, start_server


@pytest.fixture(scope="session")
def admin_url(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> str:
    """The server's address; all xdist workers share one."""
    base = tmp_path_factory.getbasetemp()
    shared: Path = base if worker_id == "master" else base.parent
    url = start_server(shared)
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
