"""Roles and databases as others set them up."""

import contextlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

PASSWORD = "x"


@contextmanager
def owned_database(
    admin_url: str, role: str = "", *, encoding: str = "UTF8", attributes: str = "", **settings: str
) -> Iterator[str]:
    """An empty database as its owner, whose role has these settings. A role that is named here stays on the server."""
    name = role or f"role_{uuid.uuid4().hex[:8]}"
    owner = sql.Identifier(name)
    with psycopg.connect(admin_url, autocommit=True) as admin:
        with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(owner, PASSWORD))
        admin.execute(sql.SQL("ALTER ROLE {} {}").format(owner, sql.SQL(attributes or "LOGIN")))
        database = f"t_{uuid.uuid4().hex[:12]}"
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
                sql.Identifier(database), owner, encoding
            )
        )
        for setting, value in settings.items():
            admin.execute(
                sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                    owner,
                    sql.Identifier(database),
                    sql.Identifier(setting),
                    sql.SQL(value),
                )
            )
        if not attributes:
            _let_become_reader(admin, owner)
        try:
            yield make_conninfo(admin_url, dbname=database, user=name, password=PASSWORD)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
            if not role:
                admin.execute(sql.SQL("DROP OWNED BY {}").format(owner))
                admin.execute(sql.SQL("DROP ROLE {}").format(owner))


def _let_become_reader(admin: psycopg.Connection, owner: sql.Identifier) -> None:
    """What docs/operations/data.md tells an administrator to run."""
    with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        admin.execute("CREATE ROLE slipway_data_reader NOLOGIN")
    admin.execute(sql.SQL("GRANT slipway_data_reader TO {}").format(owner))
