"""Explicit schema migrations: `slipway migrate` applies, `serve` only compares.

Old and new code run side by side in a rollout, and old code comes back in a rollback. So a migration only adds
(expand); one that takes away or renames what older code uses (contract) says from which schema on code can live with it.

An index of a table that has rows is a migration of its own, built CONCURRENTLY outside of a transaction: a plain CREATE INDEX
keeps every writer waiting until it has read the table, and runs would lose their leases meanwhile.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql
from psycopg.rows import dict_row

from agent_service.db.session_settings import ENCODING, FACTS, PIN, SCHEMA, Pooler, Session, connect_string, session
from agent_service.errors import SchemaMismatch

Connection = psycopg.Connection[dict[str, Any]]

LOCK_KEY = 0x51_1B_0A_7
"""Advisory lock that makes two migrations at once take turns; the number only has to be ours."""

LOCK_POLL_SECONDS = 0.2

DATABASE_POLL_SECONDS = 0.5
"""Between two attempts to reach a database that is starting; it may answer after a second or two."""

TABLE_LOCK_TIMEOUT = "5s"
"""A migration that waits longer for a table fails and is tried again: behind a waiting ALTER every query of the service waits."""

CONTRACT = re.compile(r"^-- needs code of schema (\d+)$", re.MULTILINE)
"""Line of a migration that breaks older code: the oldest schema whose code still runs on the result."""


INDEX = re.compile(r"(?:^--.*\n)*^CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+) ON [^;]+;\n*", re.MULTILINE)
"""All of a migration that is an index. PostgreSQL takes no other statement beside it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`; `version` is the schema's number after it."""

    version: int
    name: str
    sql: str

    @property
    def needs_code(self) -> int:
        """Schema version of the oldest code that runs on the result; 0 means any."""
        found = CONTRACT.search(self.sql)
        return int(found[1]) if found else 0

    @property
    def index(self) -> str | None:
        """Name of the index that is built while the service writes on; None: the migration is one short transaction."""
        found = INDEX.fullmatch(self.sql)
        return found[1] if found else None


def shipped() -> list[Migration]:
    """The migrations of this build, oldest first. File names are `NNNN_what.sql`."""
    folder = files("agent_service.db") / "migrations"
    found = [f for f in folder.iterdir() if f.name.endswith(".sql")]
    return sorted(
        (Migration(int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in found),
        key=lambda m: m.version,
    )


def wait_for_database(url: str, seconds: float, report: Callable[[str], None]) -> None:
    """Returns once a connection succeeds; tells each new reason why none does.

    Raises:
        psycopg.OperationalError: none did within `seconds`.
    """
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        try:
            psycopg.connect(connect_string(url)).close()
        except psycopg.OperationalError as error:
            if time.monotonic() >= deadline:
                raise
            reason = str(error).strip().splitlines()[0]
            if reason != told:
                report(reason)
            told = reason
            time.sleep(DATABASE_POLL_SECONDS)
        else:
            return


def migrate(url: str, report: Callable[[str], None] = lambda _: None, pooler: Pooler = "auto") -> int:
    """Brings the database to this build's schema; safe to run twice, also at once. Returns how many were applied.

    Raises:
        SchemaMismatch: the database or the user's rights are not what it takes; says what to run.
    """
    with psycopg.connect(connect_string(url), autocommit=True, row_factory=dict_row, prepare_threshold=None) as conn:
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        facts = conn.execute(FACTS).fetchone() or {}
        found = session(facts, told_pid=conn.info.backend_pid, version=conn.info.server_version, pooler=pooler)
        with _alone(conn, found):
            return _migrate(conn, found, report)


@contextmanager
def _alone(conn: Connection, found: Session) -> Iterator[None]:
    """Our settings and the lock: of the session, or behind a pooler of one transaction around it all."""
    if not found.shared:
        conn.execute(PIN, found.pin)
        _take_lock(conn, "pg_try_advisory_lock")
        yield
        return
    with conn.transaction():
        conn.execute(PIN, found.pin)
        _take_lock(conn, "pg_try_advisory_xact_lock")
        yield


def _migrate(conn: Connection, found: Session, report: Callable[[str], None]) -> int:
    conn.execute("CREATE SCHEMA IF NOT EXISTS slipway")
    conn.execute(
        "CREATE TABLE IF NOT EXISTS slipway.schema_migrations"
        " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    conn.execute("ALTER TABLE slipway.schema_migrations ADD COLUMN IF NOT EXISTS needs_code integer NOT NULL DEFAULT 0")
    applied = {row["version"] for row in conn.execute("SELECT version FROM slipway.schema_migrations")}
    if not applied and found.encoding != ENCODING:
        raise SchemaMismatch(
            f"the database's encoding is {found.encoding}, which cannot hold every text; make one with {ENCODING}"
        )
    _set_up_langgraph(conn, found, report, migrated=bool(applied))
    pending = [m for m in shipped() if m.version not in applied]
    if found.shared and applied and pending:
        # All of it is one transaction here: a plain index locks writers out, and a later migration would ask for more, while one
        # that has its fence waits for the first of the two. So the most is asked for first.
        with _short_locks(conn):
            conn.execute("LOCK TABLE slipway.runs IN ACCESS EXCLUSIVE MODE")
    for migration in pending:
        report(migration.name)
        if migration.index and not found.shared:
            _build_index(conn, migration, migration.index)
        else:
            _apply(conn, migration)
    return len(pending)


def _set_up_langgraph(conn: Connection, found: Session, report: Callable[[str], None], *, migrated: bool) -> None:
    from agent_service.db import langgraph_tables  # noqa: PLC0415  # LangGraph's own, which who only looks at the schema need not load

    strays = langgraph_tables.strays(conn, found.path, migrated=migrated)
    for schema in strays:
        report(f"LangGraph's tables of schema {schema} go to {SCHEMA}")
        with _short_locks(conn):
            langgraph_tables.move(conn, schema)
    # Its set-up keeps its own version table; CREATE INDEX CONCURRENTLY runs in no transaction.
    langgraph_tables.set_up(conn, concurrently=not found.shared)
    for schema in strays:
        with _short_locks(conn):
            langgraph_tables.merge(conn, schema)


@contextmanager
def _short_locks(conn: Connection) -> Iterator[None]:
    with conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', %s, true)", (TABLE_LOCK_TIMEOUT,))
        yield


def _apply(conn: Connection, migration: Migration) -> None:
    with _short_locks(conn):
        # Behind a pooler all is one transaction: there an index is built in the plain way.
        conn.execute(migration.sql.replace("INDEX CONCURRENTLY", "INDEX").encode())
        _record(conn, migration)


def _build_index(conn: Connection, migration: Migration, name: str) -> None:
    # Without a limit on the wait for locks: nobody queues up behind it, and it waits for every transaction that is open.
    if conn.execute(BROKEN, (name,)).fetchone():
        conn.execute(sql.SQL("DROP INDEX CONCURRENTLY slipway.{}").format(sql.Identifier(name)))
    conn.execute(migration.sql.encode())
    _record(conn, migration)


def _record(conn: Connection, migration: Migration) -> None:
    conn.execute(
        "INSERT INTO slipway.schema_migrations (version, name, needs_code) VALUES (%s, %s, %s)",
        (migration.version, migration.name, migration.needs_code),
    )


BROKEN = """
SELECT true AS broken FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'slipway'::regnamespace AND c.relname = %s AND NOT i.indisvalid
"""
"""An index that a migration was building when it was stopped: it stays behind, is written to, and is never read."""


def _take_lock(conn: Connection, function: str) -> None:
    # Not pg_advisory_lock: while that waits it holds a snapshot, which CREATE INDEX CONCURRENTLY of the
    # lock's holder waits for, and PostgreSQL ends the two as a deadlock.
    while not conn.execute(f"SELECT {function}(%s) AS taken".encode(), (LOCK_KEY,)).fetchone()["taken"]:  # type: ignore[index]  # one row
        time.sleep(LOCK_POLL_SECONDS)


async def check_schema(conn: psycopg.AsyncConnection[dict[str, object]]) -> None:
    """Raises SchemaMismatch when the database lacks something that this build uses; a newer schema may well have it all."""
    wanted = shipped()[-1].version
    found, needed = await _schema(conn)
    if found < wanted:
        raise SchemaMismatch(f"database schema is {found}, this build needs {wanted}: run `slipway migrate`")
    if wanted < needed:
        raise SchemaMismatch(
            f"database schema is {found}, which needs code of schema {needed} or later: this build is of schema {wanted}"
        )


async def _schema(conn: psycopg.AsyncConnection[dict[str, object]]) -> tuple[int, int]:
    """The database's schema, and the oldest one whose code runs on it."""
    try:
        cursor = await conn.execute(
            "SELECT coalesce(max(version), 0) AS version, coalesce(max(needs_code), 0) AS needs_code"
            " FROM slipway.schema_migrations"
        )
        row = await cursor.fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
        row = None  # no schema yet, or one of before needs_code: `migrate` adds it
    return (int(str(row["version"])), int(str(row["needs_code"]))) if row else (0, 0)
