"""The connection pool, and the one place where a database error becomes ours."""

import asyncio
import math
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from agent_service.db.session_settings import FACTS, PIN, Pooler, Session, Url, connect_string, session
from agent_service.errors import DatabaseUnavailable
from agent_service.health import ServerFacts

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

Connection = psycopg.AsyncConnection[DictRow]

RETRY_AFTER_SECONDS = 2
"""A restarted PostgreSQL took under 2 s here; a client that waits that long rarely asks twice."""

RETRY_SECONDS = 0.5
"""Between attempts of what waits for the database: short beside the time that a lease leaves."""

MAX_IDLE_SECONDS = 300.0
"""Under the idle limit of common load balancers (350 s), which drop a connection without a word."""

RECONNECT_SECONDS = 2.0
"""After so long the pool gives an attempt up and the next request starts one. By its default of 300 s the pause between
two attempts doubles, and a database that was away for a minute would be asked half a minute after its return."""

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


class Pool(AsyncConnectionPool[Connection]):
    """Whoever takes a connection, LangGraph too, finds our settings in it (db/session_settings.py)."""

    def __init__(self, url: Url, *, pooler: Pooler, **options: Any) -> None:
        self._pooler = pooler
        self._shared: WeakKeyDictionary[Connection, Session] = WeakKeyDictionary()
        self._address = partial(connect_string, url)
        self.answered = -math.inf
        """When what was done with a connection last succeeded, by the monotonic clock."""
        super().__init__(self._address, connection_class=Connection, configure=self._configure, **options)

    @asynccontextmanager
    async def connection(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  # the base class's
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> AsyncIterator[Connection]:
        """A connection; behind a pooler all that is done with it is one transaction, of that isolation."""
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        async with super().connection(timeout) as conn, _closed_when_useless(conn):
            # Before Python 3.12 `asyncio.wait_for`, in which the pool waits, loses a cancellation that comes with the connection.
            if task and task.cancelling() > cancelled:
                raise asyncio.CancelledError
            if conn not in self._shared:
                yield conn
            else:
                await conn.set_isolation_level(isolation)
                async with conn.transaction():
                    await conn.execute(PIN, self._shared[conn].pin)
                    yield conn
        self.answered = time.monotonic()

    async def _configure(self, conn: Connection) -> None:
        # Begun before a change, there after it: `drain` has not seen it, and its user may soon be locked out.
        if conn.info.user != conninfo_to_dict(self._address()).get("user", conn.info.user):
            raise psycopg.OperationalError("the address has changed meanwhile")
        found = await prepare(conn, self._pooler)
        if found.shared:
            self._shared[conn] = found


class Held:
    """A pool of one connection, in which a transaction is open: what commits in it is a savepoint."""

    answered = -math.inf

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with self._conn.transaction():
            yield self._conn


async def prepare(conn: Connection, pooler: Pooler) -> Session:
    """Finds out what a new connection is. One of our own gets our settings; one that is shared gets them by transaction."""
    facts = await (await conn.execute(FACTS)).fetchone()
    assert facts is not None  # noqa: S101  # a SELECT without FROM has one row
    found = session(facts, told_pid=conn.info.backend_pid, version=conn.info.server_version, pooler=pooler)
    await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)  # BEGIN says it, whatever the server's default is
    if found.shared:
        conn.prepare_threshold = None  # the statement would be prepared in one server process and executed in another
    else:
        await conn.execute(PIN, found.pin)
    return found


def make_pool(url: Url, *, size: int, timeout: float, name: str = "slipway", pooler: Pooler = "auto") -> Pool:
    """A closed pool; rows are dicts, statements commit on their own unless in `transaction()`."""
    return Pool(
        url,
        pooler=pooler,
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
            yield conn


@contextmanager
def database_errors() -> Iterator[None]:
    """Raises DatabaseUnavailable for what says that the database is away; a wrong statement stays an error of its own."""
    try:
        yield
    except (*UNAVAILABLE, psycopg.InternalError) as error:
        if isinstance(error, UNAVAILABLE) or _is_confused(error):
            raise DatabaseUnavailable("the database does not answer; try again", retry_after=RETRY_AFTER_SECONDS) from error
        raise


def _is_confused(error: Exception) -> bool:
    """Whether psycopg itself says it, and not the server: `received 2 results from command 'BEGIN'`. PgBouncer answers more than
    once when it loses its server (seen as a primary was lost under load)."""
    return isinstance(error, psycopg.InternalError) and error.sqlstate is None


@asynccontextmanager
async def _closed_when_useless(conn: Connection) -> AsyncIterator[None]:
    """The pool replaces a closed connection: after a failover, by one to the new primary."""
    try:
        yield
    except psycopg.InternalError as error:
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) or _is_confused(error):
            await conn.close()
        raise


async def describe_server(pool: Pool) -> ServerFacts:
    """What `slipway doctor` asks about the server.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    async with connection(pool) as conn:
        cursor = await conn.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS takes"
        )
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101  # a SELECT without FROM has one row
        by_socket = conn.pgconn.host.startswith((b"/", b"@"))
        return {"max_connections": row["takes"], "tls": bool(conn.pgconn.ssl_in_use), "local": by_socket}


async def until_database_answers(call: Callable[[], Awaitable[T]], what: str) -> T:
    """The result of a call that may be repeated, as often as the database is away."""
    while True:
        try:
            with database_errors():
                return await call()
        except DatabaseUnavailable:
            log.warning("waiting_for_database", what=what)
            await asyncio.sleep(RETRY_SECONDS)


async def _check(conn: Connection) -> None:
    """Asks a connection only whether it works if the server has said something while it was idle, as it does when it ends
    one: to ask at each check-out was half of all transactions. What this does not see, the first statement meets."""
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(conn)
    if any(conn.info.parameter_status(name) == "on" for name in READ_ONLY_STATES):
        await conn.close()
        raise psycopg.OperationalError("the server takes no writes any more")
