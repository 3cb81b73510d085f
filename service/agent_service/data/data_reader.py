"""Read-only SQL for a model: checked and rebuilt here, and confined by the database once more. What may be read, as text."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from itertools import groupby
from typing import Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow

from agent_service.child_processes import Allowance, Busy, GivenUp, Workers
from agent_service.data.query import MAX_SQL_CHARS, QueryRefused, Statement, read_query
from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import Overloaded
from agent_service.principal import Principal

__all__ = ["DataReader", "QueryRefused", "QueryResult"]

ROLE: Final = "slipway_data_reader"

INTRODUCE: Final[LiteralString] = "INSERT INTO slipway.data_callers (tenant, user_id) VALUES (%s, %s)"
"""Who asks. Nothing that runs after it in the transaction can change the row, and nobody else sees it."""

CONFINE: Final[LiteralString] = """
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %(timeout)s, true),
       set_config('search_path', %(path)s, true), set_config('work_mem', %(work_mem)s, true),
       set_config('hash_mem_multiplier', '1', true), set_config('max_parallel_workers_per_gather', '0', true),
       set_config('slipway.tenant', %(tenant)s, true), set_config('slipway.user_id', %(user)s, true)
"""
"""Until the end of the transaction. The two names are for views of a team's own; ours ask slipway_data.tenant()."""

LIMIT_FILES: Final[LiteralString] = """
SELECT set_config('temp_file_limit', %s, true) WHERE (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""
"""Only a superuser may set it, so a query cannot raise it."""

ANSWER: Final[LiteralString] = "SELECT kind, line FROM slipway_data.answer(%s, %s, %s)"

WORK_MEMORY: Final = "4MB"
"""Of one sort or hash; the rest goes to files."""

MAX_TEMPORARY_FILES: Final = "64MB"
"""Of one query: sixteen times what it may sort in memory."""

MAX_RESULT_BYTES: Final = 1_000_000
"""Of all rows as JSON; a model reads a hundredth of that."""

AT_ONCE: Final = 2
"""Queries of one process: what they may take together is bounded, and others keep the pool's connections."""

CANCEL_SECONDS: Final = 1.0
"""After the server's own deadline, which a query might have moved, it is cancelled from here."""

PARSING: Final = Allowance(seconds=10.0, cpu_seconds=3)
"""Of reading a query, in a child process. The largest take 0.3 s of CPU, a child's start 0.5 s; a starved pod has little."""

_PARAMETER: Final = re.compile(r"""'(?>[^']|'')*'|"(?>[^"]|"")*"|\$(\d+)""")


JsonValue = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """`sql` is what ran; a row has a JSON value per column; `truncated` says that there were more rows."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[JsonValue, ...], ...]
    truncated: bool


class DataReader:
    """Answers queries over `schemas`; unqualified tables are looked up in the first.

    `timeout` of a query in seconds, `parsing` of reading it.
    """

    def __init__(
        self,
        pool: Pool,
        workers: Workers,
        *,
        schemas: tuple[str, ...],
        timeout: float,
        row_limit: int,
        parsing: Allowance = PARSING,
    ) -> None:
        self._parsing = parsing
        self._pool = pool
        self._workers = workers
        self._schemas = schemas
        self._timeout = timeout
        self._row_limit = row_limit
        self._places = asyncio.Semaphore(AT_ONCE)

    async def query(self, sql: str, params: Mapping[str, object] | None = None, *, principal: Principal) -> QueryResult:
        """Runs one SELECT as `principal`; `%(name)s` in it takes its value from `params`.

        Raises:
            QueryRefused: it is not allowed, PostgreSQL reports an error in it, or it takes too long.
            Overloaded: too many others are being read or run.
            DatabaseUnavailable: the database does not answer.
        """
        statement = await self._read(sql)
        values = _values(statement.parameters, params or {})
        async with self._place(), connection(self._pool) as conn, self._deadline():
            try:
                lines = await self.run(conn, _with_values(statement.text, values, conn), principal)
            except psycopg.Error as error:
                if _is_outage(error):
                    raise
                raise QueryRefused(_message(error, self._timeout)) from None
        return self._result(statement.shown, lines)

    async def _read(self, sql: str) -> Statement:
        """The statement, parsed where it may be killed: 209 characters can keep sqlglot busy for ever."""
        if len(sql) > MAX_SQL_CHARS:
            raise QueryRefused(f"the query has {len(sql)} characters; {MAX_SQL_CHARS} are allowed")
        try:
            return await self._workers.call(self._parsing, read_query, sql, self._schemas)
        except Busy:
            raise Overloaded("other queries are being read; try the same one again") from None
        except GivenUp as error:
            raise QueryRefused(f"the query cannot be read: {error}; write a simpler one") from None

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("other queries are running; try the same one again") from None
        try:
            yield
        finally:
            self._places.release()

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Cancels what still runs; psycopg sends the request to the server."""
        try:
            async with asyncio.timeout(self._timeout + CANCEL_SECONDS):
                yield
        except TimeoutError:
            raise QueryRefused(f"the query took longer than {self._timeout:g} s") from None

    async def run(self, conn: Connection, sql: str, principal: Principal) -> list[DictRow]:
        """The lines of slipway_data.answer for any text, which nobody need have checked; nothing of it stays.

        Raises:
            psycopg.Error: what PostgreSQL says to it.
        """
        try:
            async with conn.transaction(force_rollback=True):
                await conn.execute(INTRODUCE, (principal.tenant, principal.user))
                await conn.execute(LIMIT_FILES, (MAX_TEMPORARY_FILES,))
                await conn.execute(CONFINE, self._confinement(principal))
                return await (await conn.execute(ANSWER, (sql, self._row_limit + 1, MAX_RESULT_BYTES))).fetchall()
        finally:
            if not conn.closed and conn.info.transaction_status != TransactionStatus.INERROR:
                await conn.execute("SELECT pg_advisory_unlock_all()")  # a session's locks outlive its transaction

    def _result(self, shown: str, lines: Sequence[DictRow]) -> QueryResult:
        rows = [_row(line["line"]) for line in lines if line["kind"] == "row"]
        columns = _row(lines[0]["line"]) if lines[0]["line"] else []
        truncated = len(rows) > self._row_limit or lines[-1]["kind"] == "cut"
        kept = tuple(tuple(value for _, value in row) for row in rows[: self._row_limit])
        return QueryResult(shown, tuple(name for name, _ in columns), kept, truncated)

    async def describe(self) -> str:
        """The tables that a query may read, with columns, types and comments: text for a prompt.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with connection(self._pool) as conn:
            return await describe(conn, self._schemas, ROLE)

    def _confinement(self, principal: Principal) -> dict[str, str]:
        return {
            "timeout": str(max(1, round(self._timeout * 1000))),
            # pg_temp is searched first unless it is named.
            "path": f'pg_catalog, "{self._schemas[0]}", pg_temp',
            "work_mem": WORK_MEMORY,
            "tenant": principal.tenant,
            "user": principal.user,
        }


class _Object(list[tuple[str, object]]):
    """A JSON object with its names in order, and twice where they are."""


def _row(line: str) -> list[tuple[str, JsonValue]]:
    try:
        return [(name, _plain(value)) for name, value in json.loads(line, object_pairs_hook=_Object, parse_float=Decimal)]
    except RecursionError:
        raise QueryRefused("a value of the result is nested too deeply") from None


def _plain(value: object) -> JsonValue:
    match value:
        case _Object():
            return {name: _plain(item) for name, item in value}
        case list():
            return [_plain(item) for item in value]
        case _:
            return to_json(value)


def _with_values(text: str, values: Sequence[object], conn: Connection) -> str:
    """The rebuilt query with each parameter as a literal, quoted by libpq; in texts and names there is none."""
    quoted = [sql.Literal(value).as_string(conn) for value in values]
    return _PARAMETER.sub(lambda found: f" {quoted[int(found[1]) - 1]} " if found[1] else found[0], text)


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


def to_json(value: object) -> JsonValue:
    """Numbers stay numbers, dates become ISO 8601, and whatever JSON has no form for becomes text."""
    match value:
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case _:
            return _scalar(value)


def _scalar(value: object) -> JsonValue:
    match value:
        case None | str() | bool() | int():
            return value
        case float() | Decimal() if math.isfinite(value):
            return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)


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


def _table(relation: str, about: str | None, columns: Iterable[DictRow]) -> str:
    lines = [f"  {c['name']} {_type(c['type'])}{_comment(c['comment'])}" for c in columns]
    return "\n".join([f"{relation}{_comment(about)}", *lines])


def _type(name: str) -> str:
    return {"timestamp with time zone": "timestamptz", "double precision": "float"}.get(name, name)


def _comment(text: str | None) -> str:
    return f" -- {text}" if text else ""
