"""The connection pool, and the one place where a database error becomes ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from agent_service.errors import DatabaseUnavailable

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

RETRY_AFTER_SECONDS = 2
"""A restarted PostgreSQL took under 2 s here; a client that waits that long rarely asks twice."""

MAX_IDLE_SECONDS = 300.0
"""Under the idle limit of common load balancers (350 s), which drop a connection without a word."""


def make_pool(url: str, *, size: int, timeout: float) -> Pool:
    """A closed pool; rows are dicts, statements commit on their own unless in `transaction()`."""
    return AsyncConnectionPool(
        url,
        connection_class=Connection,
        kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "slipway", "connect_timeout": 5},
        min_size=1,
        max_size=size,
        timeout=timeout,
        max_idle=MAX_IDLE_SECONDS,
        check=AsyncConnectionPool.check_connection,
        open=False,
        name="slipway",
    )


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection from the pool.

    Raises:
        DatabaseUnavailable: none to be had in time, or it broke while in use.
    """
    try:
        async with pool.connection() as conn:
            yield conn
    except (PoolTimeout, PoolClosed, TooManyRequests, psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseUnavailable(
            "the database does not answer; nothing was changed by this call", retry_after=RETRY_AFTER_SECONDS
        ) from error
