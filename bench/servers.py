"""The two servers and the model, each a process of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psycopg

from tests.support.replicas import free_port

MODEL = "gpt-4.1-mini"
"""Has a price, so that billing is measured too. The fake model answers to any name."""

SERVER_CPU, OTHERS_CPU = 0, 1
"""The server under test has a core of its own; the model, PostgreSQL and the load share the other."""

STATISTICS_SECONDS = 11.0
"""An idle session of PostgreSQL reports its last commits after 10 s (PGSTAT_IDLE_INTERVAL)."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    url: str
    database: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time, in ticks of 10 ms (Linux)."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def commits(self) -> int:
        """Of all sessions in its database so far, a load of at least STATISTICS_SECONDS ago."""
        with psycopg.connect(self.database) as conn:
            row = conn.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert row
        return int(row[0])


@asynccontextmanager
async def tutorial(model_url: str, database: str) -> AsyncIterator[Server]:
    port = free_port()
    command = ["-m", "bench.tutorial", str(port), database, model_url]
    async with _started("tutorial", command, {}, port, database) as server:
        yield server


@asynccontextmanager
async def slipway(model_url: str, database: str, name: str = "Slipway", **more: str) -> AsyncIterator[Server]:
    """`more`: variables of its own."""
    port = free_port()
    env = {
        "AUTH": "disabled",
        "DATABASE_URL": database,
        "PORT": str(port),
        "OPS_PORT": "0",
        "LOG_LEVEL": "warning",
        "MODEL": MODEL,
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "sk-1",
        "AGENT_GRAPH": "bench.graph:build",
        **more,
    }
    async with _started(name, ["-c", "from agent_service.cli import main; main()", "serve"], env, port, database) as server:
        yield server


@asynccontextmanager
async def _started(name: str, command: list[str], env: dict[str, str], port: int, database: str) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(sys.executable, *command, env={**os.environ, "PYTHONPATH": ".", **env})
    try:
        server = Server(name, f"http://127.0.0.1:{port}", database, process.pid)
        pin(process.pid, SERVER_CPU)
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            while not await _is_ready(session, server.url):
                await asyncio.sleep(0.1)
        yield server
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def fake_model() -> AsyncIterator[str]:
    """Its base URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.fake_model", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


def pin(pid: int, cpu: int) -> None:
    """Keeps a process (0: this one), its threads and what it starts later to one core, where there is more than one."""
    if (os.cpu_count() or 1) > 1:
        for thread in Path(f"/proc/{pid or 'self'}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cpu})


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
