"""Explicit schema migrations: `slipway migrate` applies, `serve` only compares."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg.rows import dict_row

from agent_service.errors import SchemaMismatch

LOCK_KEY = 0x51_1B_0A_7
"""Advisory lock that makes two migrations at once take turns; the number only has to be ours."""

LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def shipped() -> list[Migration]:
    """The migrations of this build, oldest first. File names are `NNNN_what.sql`."""
    folder = files("agent_service.db") / "migrations"
    found = [f for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(
        (Migration(int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in found),
        key=lambda m: m.version,
    )


def migrate(url: str, report: Callable[[str], None] = lambda _: None) -> int:
    """Brings the database to this build's schema; safe to run twice, also at once. Returns how many were applied."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as conn:
        _take_lock(conn)
        conn.execute("CREATE SCHEMA IF NOT EXISTS slipway")
        conn.execute(
            "CREATE TABLE IF NOT EXISTS slipway.schema_migrations"
            " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        # LangGraph's own tables; their set-up keeps its own version table and needs autocommit (CREATE INDEX CONCURRENTLY).
        PostgresSaver(conn).setup()
        PostgresStore(conn).setup()
        applied = {row["version"] for row in conn.execute("SELECT version FROM slipway.schema_migrations")}
        pending = [m for m in shipped() if m.version not in applied]
        for migration in pending:
            report(migration.name)
            with conn.transaction():
                conn.execute(migration.sql.encode())
                conn.execute(
                    "INSERT INTO slipway.schema_migrations (version, name) VALUES (%s, %s)", (migration.version, migration.name)
                )
        return len(pending)


def _take_lock(conn: psycopg.Connection[dict[str, object]]) -> None:
    # Not pg_advisory_lock: while that waits it holds a snapshot, which CREATE INDEX CONCURRENTLY of the
    # lock's holder waits for, and PostgreSQL ends the two as a deadlock.
    while not conn.execute("SELECT pg_try_advisory_lock(%s) AS taken", (LOCK_KEY,)).fetchone()["taken"]:  # type: ignore[index]  # one row
        time.sleep(LOCK_POLL_SECONDS)


async def check_schema(conn: psycopg.AsyncConnection[dict[str, object]]) -> None:
    """Raises SchemaMismatch unless the database has exactly this build's schema."""
    wanted = shipped()[-1].version
    try:
        row = await (await conn.execute("SELECT max(version) AS version FROM slipway.schema_migrations")).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    found = row["version"] if row and row["version"] is not None else 0
    if found == wanted:
        return
    hint = "run `slipway migrate`" if int(str(found)) < wanted else "this build is older than the database"
    raise SchemaMismatch(f"database schema is {found}, this build needs {wanted}: {hint}")
