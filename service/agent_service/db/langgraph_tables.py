"""LangGraph's tables, all in the schema that we look for them in.

Its statements name no schema, and by PostgreSQL's default path a schema with the role's name comes before `public`: for
a role named `slipway` versions before 0.1.0's last release candidate made the tables in ours, where nothing erased them.
"""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg import sql

from agent_service.db.session_settings import SCHEMA
from agent_service.errors import SchemaMismatch

Connection = psycopg.Connection[dict[str, Any]]

TABLES: Final = ("checkpoint_migrations", "checkpoints", "checkpoint_blobs", "checkpoint_writes", "store_migrations", "store")

OURS: Final = "slipway"

NEWER_WINS: Final = {
    "store": "(prefix, key) DO UPDATE SET value = EXCLUDED.value, updated_at = EXCLUDED.updated_at"
    " WHERE EXCLUDED.updated_at > kept.updated_at"
}
"""What else has one key in two places is one thing that was written twice: ids and versions are random or grow."""


def strays(conn: Connection, path: Sequence[str], *, migrated: bool) -> list[str]:
    """Schemas other than SCHEMA that hold such tables of ours: our own, and the first of the role's path where an older
    version has worked with them.
    """
    found = [row["schema"] for row in conn.execute(HOLDERS, (list(TABLES), [OURS, *path])).fetchall()]
    first = next((name for name in path if name in found), None)
    used = {OURS, first} if migrated else {OURS}
    return [name for name in found if name in used and name != SCHEMA]


def move(conn: Connection, schema: str) -> None:
    """Moves the tables that SCHEMA lacks. Statements that run meanwhile wait, and find them where they are then."""
    for table in _held(conn, schema):
        if table not in _held(conn, SCHEMA):
            stray = sql.Identifier(schema, table)
            conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(stray, sql.Identifier(SCHEMA)))


def merge(conn: Connection, schema: str) -> None:
    """Adds the rows of the tables that SCHEMA has too to those there, and drops what is empty then."""
    for table in _held(conn, schema):
        stray, kept = sql.Identifier(schema, table), sql.Identifier(SCHEMA, table)
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(stray))
        names = [row["name"] for row in conn.execute(COLUMNS, (schema, table)).fetchall()]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        conflict = sql.SQL(NEWER_WINS.get(table, "DO NOTHING"))
        conn.execute(
            sql.SQL("INSERT INTO {} AS kept ({}) SELECT {} FROM {} ON CONFLICT {}").format(
                kept, columns, columns, stray, conflict
            )
        )
        conn.execute(sql.SQL("DROP TABLE {}").format(stray))


def set_up(conn: Connection, *, concurrently: bool) -> None:
    """LangGraph's own migrations; without `concurrently` they fit into a transaction, and block writers for their time.

    Raises:
        SchemaMismatch: the role may not create what is missing; says what to run.
    """
    _check_rights(conn)
    saver, store = PostgresSaver(conn), PostgresStore(conn)
    if not concurrently:
        for library in (saver, store):
            library.MIGRATIONS = [text.replace("CONCURRENTLY", "") for text in library.MIGRATIONS]
    saver.setup()
    store.setup()


def _check_rights(conn: Connection) -> None:
    row = conn.execute(RIGHTS, {"schema": SCHEMA}).fetchone() or {}
    if row["there"] is None:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    elif not row["may_create"] and len(_held(conn, SCHEMA)) < len(TABLES):
        raise SchemaMismatch(
            f"the user {row['who']} may not create tables in the schema {SCHEMA}, where LangGraph's belong; have an administrator"
            f" run: GRANT CREATE ON SCHEMA {SCHEMA} TO {row['who']}; then migrate again"
        )


def _held(conn: Connection, schema: str) -> list[str]:
    held = {row["name"] for row in conn.execute(HELD, (schema, list(TABLES))).fetchall()}
    return [table for table in TABLES if table in held]


HOLDERS = """
SELECT DISTINCT n.nspname::text AS schema FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relname = ANY(%s) AND n.nspname = ANY(%s)
"""

HELD = """
SELECT relname::text AS name FROM pg_class
WHERE relkind = 'r' AND relnamespace = to_regnamespace(quote_ident(%s)) AND relname = ANY(%s)
"""

COLUMNS = """
SELECT attname::text AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""

RIGHTS = """
SELECT to_regnamespace(%(schema)s) AS there, quote_ident(current_user) AS who,
       CASE WHEN to_regnamespace(%(schema)s) IS NOT NULL THEN has_schema_privilege(%(schema)s, 'CREATE') END AS may_create
"""
