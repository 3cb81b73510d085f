"""Read-only SQL for a model: checked and rebuilt here, and confined by the database once more."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncRawServerCursor
from psycopg.rows import tuple_row

from agent_service.data.describe import describe
from agent_service.data.statement import QueryRefused, Statement, prepare
from agent_service.data.values import JsonValue, to_json
from agent_service.db.pool import Connection, Pool, connection
from agent_service.principal import Principal

__all__ = ["DataReader", "QueryRefused", "QueryResult"]

ROLE: Final = "slipway_data_reader"

CONFINE: Final[LiteralString] = """
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %(timeout)s, true),
       set_config('search_path', %(path)s, true), set_config('standard_conforming_strings', 'on', true),
       set_config('TimeZone', 'UTC', true), set_config('slipway.tenant', %(tenant)s, true),
       set_config('slipway.user_id', %(user)s, true), set_config('role', %(role)s, true)
"""
"""Until the end of the transaction. The role comes last: it may not set what stands before it."""

MAX_ROW_BYTES: Final = 100_000
"""A result is at most this many times DATA_ROW_LIMIT: one aggregate can build a text of a gigabyte."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """`sql` is what ran; a row has a JSON value per column; `truncated` says that there were more rows."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[JsonValue, ...], ...]
    truncated: bool


class DataReader:
    """Answers queries over `schemas`; unqualified tables are looked up in the first. `timeout` in seconds."""

    def __init__(self, pool: Pool, *, schemas: tuple[str, ...], timeout: float, row_limit: int) -> None:
        self._pool = pool
        self._schemas = schemas
        self._timeout = timeout
        self._row_limit = row_limit

    async def query(self, sql: str, params: Mapping[str, object] | None = None, *, principal: Principal) -> QueryResult:
        """Runs one SELECT as `principal`; `%(name)s` in it takes its value from `params`.

        Raises:
            QueryRefused: it is not allowed, PostgreSQL reports an error in it, or it takes too long.
            DatabaseUnavailable: the database does not answer.
        """
        # A thread has a stack of its own: 1,000 frames are few for a parser that starts below a graph, a node and a tool.
        statement = await asyncio.to_thread(prepare, sql, self._schemas)
        values = _values(statement.parameters, params or {})
        async with connection(self._pool) as conn:
            try:
                return await self._run(conn, statement, values, principal)
            except psycopg.Error as error:
                if _is_outage(error):
                    raise
                raise QueryRefused(_message(error, self._timeout)) from None

    async def describe(self) -> str:
        """The tables that a query may read, with columns, types and comments: text for a prompt.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with connection(self._pool) as conn:
            return await describe(conn, self._schemas, ROLE)

    async def _run(self, conn: Connection, statement: Statement, values: Sequence[object], principal: Principal) -> QueryResult:
        async with conn.transaction():
            await conn.execute(CONFINE, self._confinement(principal))
            async with AsyncRawServerCursor[tuple[Any, ...]](conn, "query_data", row_factory=tuple_row) as cursor:
                await cursor.execute(_bounded(statement.text), values)
                rows = await cursor.fetchmany(self._row_limit + 1)
                columns = tuple(column.name for column in cursor.description or ())
        shown = tuple(tuple(map(to_json, row)) for row in rows[: self._row_limit])
        return QueryResult(statement.shown, columns, shown, truncated=len(rows) > self._row_limit)

    def _confinement(self, principal: Principal) -> dict[str, str]:
        return {
            "timeout": str(max(1, round(self._timeout * 1000))),
            # pg_temp is searched first unless it is named.
            "path": f'pg_catalog, "{self._schemas[0]}", pg_temp',
            "tenant": principal.tenant,
            "user": principal.user,
            "role": ROLE,
        }


def _bounded(query: str) -> bytes:
    return (
        f"SELECT slipway_row.* FROM ({query}) AS slipway_row"
        f" WHERE pg_catalog.octet_length((slipway_row.*)::pg_catalog.text) <= {MAX_ROW_BYTES} OR slipway_data.row_too_large()"
    ).encode()


def _values(names: Sequence[str], params: Mapping[str, object]) -> list[object]:
    missing = [name for name in names if name not in params]
    if missing:
        raise QueryRefused(f"the parameter {missing[0]} has no value")
    return [params[name] for name in names]


def _is_outage(error: psycopg.Error) -> bool:
    """Connection trouble (no SQLSTATE, class 08) and a server that shuts down (57P): not the query's fault."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _message(error: psycopg.Error, timeout: float) -> str:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return f"the query took longer than {timeout:g} s"
    return error.diag.message_primary or str(error)
