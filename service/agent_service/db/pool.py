"""The connection pool, and the one place where a database error becomes ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from agent_service.errors import DatabaseUnavailable

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

RETRY_AFTER_SECONDS = 2
"""A restarted PostgreSQL took under 2 s here; a client that waits that long rarely asks twice."""

RETRY_SECONDS = 0.5
"""Between attempts of what waits for the database: short beside the time that a lease leaves."""

MAX_IDLE_SECONDS = 300.0
"""Under the idle limit of common load balancers (350 s), which drop a connection without a word."""

RECONNECT_SECONDS = 2.0
"""After so long the pool gives an attempt up and the next request starts one. By its default of 300 s the pause between
two attempts doubles, and a database that was away for a minute would be asked half a minute after its return."""

CONNECT_OPTIONS = {
    # A standby, or a server whose disk is full, takes no run: of several hosts the one that takes writes is ours.
    "target_session_attrs": "read-write",
    "connect_timeout": "5",
    # A host that vanished says nothing, and the kernel's own patience is 15 minutes; these are 11 s. Seconds, but
    # for tcp_user_timeout: milliseconds.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "11000",
}
"""libpq's options (https://www.postgresql.org/docs/18/libpq-connect.html); DATABASE_URL overrides each."""

READ_ONLY_STATES = ("in_hot_standby", "default_transaction_read_only")
"""What the server reports on its own when it changes: asking for it costs no round trip."""

UNAVAILABLE = (
    psycopg.OperationalError,  # lost, refused, shut down, disk full, out of memory or connections
    psycopg.InterfaceError,  # used after it was lost
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
)


def connect_string(url: str) -> str:
    """The address with our options where it names none."""
    return make_conninfo("", **{**CONNECT_OPTIONS, **conninfo_to_dict(url)})


def make_pool(url: str, *, size: int, timeout: float, name: str = "slipway") -> Pool:
    """A closed pool; rows are dicts, statements commit on their own unless in `transaction()`."""
    return AsyncConnectionPool(
        connect_string(url),
        connection_class=Connection,
        kwargs={"autocommit": True, "row_factory": dict_row, "application_name": name},
        min_size=1,
        max_size=size,
        timeout=timeout,
        max_idle=MAX_IDLE_SECONDS,
        reconnect_timeout=RECONNECT_SECONDS,
        check=_check,
        open=False,
        name=name,
    )


LIMIT_IDLE = "SELECT set_config('idle_in_transaction_session_timeout', %s, true)"
"""First in a transaction that locks runs: a process that vanishes in its middle must not keep them locked from its peers."""


def idle_limit(lease_seconds: float) -> str:
    """PostgreSQL's milliseconds: about a lease, after which peers want the run."""
    return str(max(1_000, round(lease_seconds * 1_000)))


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection from the pool.

    Raises:
        DatabaseUnavailable: none to be had in time, or it broke while in use, or the server takes no writes. Whether
            what was under way has been committed is not known.
    """
    with database_errors():
        async with pool.connection() as conn:
            try:
                yield conn
            except psycopg.errors.ReadOnlySqlTransaction:
                # The pool replaces a closed connection: after a failover, by one to the new primary.
                await conn.close()
                raise


@contextmanager
def database_errors() -> Iterator[None]:
    """Raises DatabaseUnavailable for what says that the database is away; a wrong statement stays an error of its own."""
    try:
        yield
    except UNAVAILABLE as error:
        raise DatabaseUnavailable("the database does not answer; try again", retry_after=RETRY_AFTER_SECONDS) from error


async def describe_server(pool: Pool) -> dict[str, bool | int]:
    """What `slipway doctor` asks about the server: connections it takes from us, and whether ours is encrypted.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    async with connection(pool) as conn:
        cursor = await conn.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS takes"
        )
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101  # a SELECT without FROM has one row
        return {"max_connections": row["takes"], "tls": conn.pgconn.ssl_in_use}


async def until_database_answers(call: Callable[[], Awaitable[T]], what: str) -> T:
    """The result of a call that may be repeated, as often as the database is away."""
    while True:
        try:
            with database_errors():
                return await call()
        except DatabaseUnavailable:
            log.warning("waiting for the database", what=what)
            await asyncio.sleep(RETRY_SECONDS)


async def _check(conn: Connection) -> None:
    await AsyncConnectionPool.check_connection(conn)
    if any(conn.info.parameter_status(name) == "on" for name in READ_ONLY_STATES):
        await conn.close()
        raise psycopg.OperationalError("the server takes no writes any more")
