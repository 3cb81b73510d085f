"""What every session of ours has, whatever its role, database, server or pooler was set up with.

A role may have `DateStyle = 'SQL, DMY'`, a `search_path` of its own, or a `lock_timeout`; a schema with the role's name
comes before `public` by PostgreSQL's default. We rely on none of that.

Behind a pooler a session is not ours: what is set in it reaches whoever gets the server's connection next, and is gone
for our next statement. There each transaction begins with the settings. A pooler makes up the key for cancel requests
(https://www.pgbouncer.org/faq.html), so the process id that the client was told is not that of the server's process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Url = str | Callable[[], str]
"""A connection string, or what has the one of the moment (db/address.py)."""

Pooler = Literal["auto", "session", "transaction"]
"""`auto`: as `transaction` where a pooler is noticed. `session`: it keeps a server's connection for each of ours."""

CONNECT_OPTIONS: Final = {
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

ENCODING: Final = "UTF8"
"""Of every text on the wire; in a database of SQL_ASCII psycopg would hand out bytes."""

SCHEMA: Final = "public"
"""Where LangGraph's tables are. Its statements name no schema."""

SETTINGS: Final = {
    "DateStyle": "ISO, MDY",  # psycopg reads no other
    "IntervalStyle": "postgres",  # likewise
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",  # floats come back as they went
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "default_transaction_isolation": "read committed",  # statements wait for each other's rows, and then see them
    "default_transaction_deferrable": "off",
    # Milliseconds, 0 for none. Deadlines are ours to keep.
    "statement_timeout": "0",
    "lock_timeout": "0",
    # But of a process that stands still in the middle of a transaction: others wait for what it has locked, and are to renew
    # their leases (5 s by default, at a third of it) in time.
    "idle_in_transaction_session_timeout": "3s",
}

LATER_SETTINGS: Final = {"idle_session_timeout": ("0", 140_000), "transaction_timeout": ("0", 170_000)}
"""Value, and the server that knows it first."""

FACTS: Final[LiteralString] = """
SELECT pg_backend_pid() AS pid, current_setting('server_encoding') AS encoding, current_schemas(false) AS path,
       (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector') AS vector
"""

PIN: Final[LiteralString] = """
SELECT set_config(name, value, %s) FROM unnest(%s::text[], %s::text[]) AS setting (name, value)
"""

PinValues = tuple[bool, list[str], list[str]]


@dataclass(frozen=True, slots=True)
class Session:
    """What a new connection turned out to be."""

    shared: bool
    """Others get the server's side of it between our transactions."""
    encoding: str
    path: tuple[str, ...]
    """The schemas that its role would look names up in."""
    settings: dict[str, str]

    @property
    def pin(self) -> PinValues:
        """The values of PIN: for the transaction where the session is shared, else for good."""
        return self.shared, list(self.settings), list(self.settings.values())


def session(facts: dict[str, Any], *, told_pid: int, version: int, pooler: Pooler) -> Session:
    """Reads the row of FACTS. `told_pid` is what the client was told at connect, `version` the server's number."""
    behind = facts["pid"] != told_pid
    later = {name: value for name, (value, since) in LATER_SETTINGS.items() if version >= since}
    schemas = dict.fromkeys([SCHEMA, *([facts["vector"]] if facts["vector"] else [])])
    path = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in schemas)
    return Session(
        shared=pooler == "transaction" or (pooler == "auto" and behind),
        encoding=facts["encoding"],
        path=tuple(facts["path"]),
        settings={**SETTINGS, **later, "search_path": path},
    )


def connect_string(url: Url) -> str:
    """The address with our options where it names none."""
    url = url if isinstance(url, str) else url()
    return make_conninfo("", **{**CONNECT_OPTIONS, **conninfo_to_dict(url), "client_encoding": ENCODING})
