"""A real PgBouncer before the tests' server, on a free loopback port."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.ports import free_port
from tests.support.programs import program

READY_SECONDS = 20.0


@asynccontextmanager
async def pgbouncer(
    url: str, mode: Literal["transaction", "session"], files: Mapping[str, str] | None = None, database: str = "", **options: str
) -> AsyncIterator[str]:
    """The address of the same database through a pooler; the pooler is gone afterwards.

    `files` has what is in the files that settings name, `database` how to reach the server (as the address says it).
    """
    told, port = conninfo_to_dict(url), free_port()
    server = " ".join(f"{key}={told[key]}" for key in ("host", "port", "user", "password") if told.get(key))
    user = str(told["user"])
    settings: dict[str, object] = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "pool_mode": mode,
        "default_pool_size": 8,
        "max_client_conn": 200,
        **options,
    }
    through = make_conninfo(url, host="127.0.0.1", port=port)
    # Not pytest's folder: it is shut to the user that PgBouncer runs as.
    with tempfile.TemporaryDirectory(prefix="slipway-pgbouncer-") as made:
        folder = Path(made)
        users = folder / "users.txt"
        users.write_text(f'"{user}" ""\n', encoding="utf-8")
        for setting, content in (files or {}).items():
            (folder / setting).write_text(content, encoding="utf-8")
            settings[setting] = folder / setting
        file = _configure(folder, database or server, {"auth_file": users, **settings})
        command = [program("pgbouncer", "pgbouncer"), str(file)]
        own = _server_user(str(told.get("host", "")))
        with (folder / "log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, user=own)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await _answers(through):
                    assert process.returncode is None, (folder / "log").read_text(encoding="utf-8")
                    await asyncio.sleep(0.05)
            yield through
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _configure(folder: Path, database: str, settings: Mapping[str, object]) -> Path:
    lines = ["[databases]", f"* = {database}", "[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items())]
    file = folder / "pgbouncer.ini"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder.chmod(0o755)
    return file


def _server_user(host: str) -> str | None:
    """PgBouncer does not run as root, and the folder of the server's socket is shut to others."""
    if os.geteuid():
        return None
    return Path(host).owner() if host.startswith("/") else "nobody"


async def _answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        await (await psycopg.AsyncConnection.connect(url)).close()
        return True
    return False
