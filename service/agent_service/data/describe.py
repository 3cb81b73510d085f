"""What a query may read, as text for a prompt."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Final, LiteralString

from agent_service.db.pool import Connection

COLUMNS: Final[LiteralString] = """
SELECT n.nspname || '.' || c.relname AS relation, obj_description(c.oid, 'pg_class') AS about,
       a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, col_description(c.oid, a.attnum) AS comment
FROM pg_namespace n
JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'v', 'm', 'f', 'p')
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = ANY(%(schemas)s)
  AND has_schema_privilege(%(role)s, n.oid, 'USAGE') AND has_column_privilege(%(role)s, c.oid, a.attnum, 'SELECT')
ORDER BY array_position(%(schemas)s, n.nspname::text), c.relname, a.attnum
"""


async def describe(conn: Connection, schemas: tuple[str, ...], role: str) -> str:
    """Tables and views of `schemas` that `role` may read; a line per column."""
    rows = await (await conn.execute(COLUMNS, {"schemas": list(schemas), "role": role})).fetchall()
    tables = groupby(rows, key=lambda row: (row["relation"], row["about"]))
    return "\n\n".join(_table(relation, about, columns) for (relation, about), columns in tables)


def _table(relation: str, about: str | None, columns: Iterable[Mapping[str, Any]]) -> str:
    lines = [f"  {c['name']} {_type(c['type'])}{_comment(c['comment'])}" for c in columns]
    return "\n".join([f"{relation}{_comment(about)}", *lines])


def _type(name: str) -> str:
    return {"timestamp with time zone": "timestamptz", "double precision": "float"}.get(name, name)


def _comment(text: str | None) -> str:
    return f" -- {text}" if text else ""
