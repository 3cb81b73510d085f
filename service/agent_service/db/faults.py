"""Why a database cannot serve, in a line for whoever runs it."""

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout

from agent_service.db.session_settings import Url, connect_string

CONNECT_SECONDS = 3
"""For the one attempt that tells why the pool has no connection; the probe that waits for it is not in a hurry."""

READ_ONLY = "the server takes no writes: a standby, or default_transaction_read_only of the server, the database or the user"

KINDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((errors.InsufficientPrivilege,), "the user lacks a right that a turn needs: {}"),
    ((errors.ReadOnlySqlTransaction,), READ_ONLY),
    ((errors.DiskFull,), "the disk of the database is full: {}"),
    ((errors.QueryCanceled, errors.LockNotAvailable), "a statement of a turn takes too long: {}"),
    (
        (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName),
        "the schema is not what this build needs ({}): run `slipway migrate`",
    ),
    ((errors.UntranslatableCharacter, errors.CharacterNotInRepertoire), "the encoding of the database must be UTF8: {}"),
)


def explain(error: BaseException) -> str:
    """What is wrong, from what a statement or a connection met."""
    said = _said(error)
    if "session is read-only" in said or "hot standby" in said:
        return READ_ONLY
    return next((text.format(said) for kinds, text in KINDS if isinstance(error, kinds)), said)


async def explain_no_connection(error: BaseException | None, url: Url) -> str:
    """The same for a pool that had none to give: asks for one outside of it."""
    if not isinstance(error, PoolTimeout):
        return explain(error) if error else "the database does not answer"
    try:
        conn = await psycopg.AsyncConnection.connect(connect_string(url), connect_timeout=CONNECT_SECONDS)
    except psycopg.Error as reason:
        return explain(reason)
    await conn.close()
    return "every connection of this process is taken (DATABASE_POOL_SIZE)"


def _said(error: BaseException) -> str:
    """One line, without the address: `connection failed: connection to server at "…", port … failed: FATAL:  …`."""
    message = (isinstance(error, psycopg.Error) and error.diag.message_primary) or str(error)
    lines = message.strip().splitlines()
    return lines[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip() if lines else type(error).__name__
