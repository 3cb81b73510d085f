"""The PostgreSQL of a bench: a server of its own, fresh databases on it, and what it says and costs."""

import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agent_service.db.migrate import migrate
from bench.processes import cpu_ms
from bench.support import own_servers

OPTIONS = {
    "max_connections": "400",  # 100 listeners and as many writers, beside the servers
    "shared_buffers": "512MB",
    "checkpoint_timeout": "1h",  # one that begins in a measurement would fill the WAL with whole pages
    "max_wal_size": "8GB",
    "autovacuum_naptime": "1h",  # likewise: its CPU would be counted for whoever is measured then
}
"""What differs from PostgreSQL's defaults."""

STATISTICS_SECONDS = 11.0
"""An idle session of PostgreSQL reports its last commits after 10 s (PGSTAT_IDLE_INTERVAL)."""

TEMPLATE = "migrated"


class Postgres:
    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._pid = pid

    def cpu_ms(self) -> float:
        """Of all its processes, those that have ended included."""
        return cpu_ms(self._pid)

    def wal_bytes(self) -> int:
        """Written so far, by all databases."""
        return int(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    def commits(self, database: str) -> int:
        """Transactions of all sessions in a database so far, if they were idle for STATISTICS_SECONDS."""
        return int(self.value("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", _name(database)))

    def value(self, query: LiteralString, *values: object) -> Any:
        with psycopg.connect(self.url) as conn:
            row = conn.execute(query, values).fetchone()
        assert row
        return row[0]

    @property
    def version(self) -> str:
        return str(self.value("SHOW server_version"))

    @contextmanager
    def database(self, *, migrated: bool) -> Iterator[str]:
        """Address of a new one, dropped afterwards with whoever is still connected."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        template = TEMPLATE if migrated else "template0"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"), name, template)
        try:
            yield make_conninfo(self.url, dbname=name)
        finally:
            self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)"), name)

    def make_template(self) -> None:
        self._run(sql.SQL("CREATE DATABASE {}"), TEMPLATE)
        migrate(make_conninfo(self.url, dbname=TEMPLATE))

    def _run(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(statement.format(*map(sql.Identifier, names)))


def _name(database: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(database)["dbname"])


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A started server, on the cores of this process; its files are in memory where there is room, gone afterwards.

    `fsync` is as in production, though in memory it costs nothing: what a disk adds is its own time, at two commits a turn.
    """
    warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")  # platformdirs, in containers without a login session
    with own_servers(1) as [server]:
        server.create(**OPTIONS)
        server.configure(fsync="on")
        server.start()
        pid = int((server.data / "postmaster.pid").read_text().split()[0])
        database = Postgres(server.url, pid)
        database.make_template()
        yield database


def as_url(database: str) -> str:
    """The same address as a URL, for libraries that read no other form; its host is the folder of a socket."""
    parts = psycopg.conninfo.conninfo_to_dict(database)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(str(parts['host']))}"
