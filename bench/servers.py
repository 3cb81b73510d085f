"""What is measured, each a process of its own: Slipway with either kind of graph, the tutorial, and the model beside them."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import IO

from bench.client import Connection, Refused
from bench.database import Postgres
from bench.load import Target
from bench.processes import SERVER_CPU, cpu_ms, memory_bytes, pin
from bench.script import MODEL
from bench.support import free_port

TUTORIAL, SHARED, OWN, DIRECT = "tutorial", "Slipway, the server's model", "Slipway, its own ChatOpenAI", "direct line"

KINDS = (SHARED, OWN, TUTORIAL)
"""The three side by side, in the order of each repetition."""

READY_SECONDS = 60.0
LOOK_SECONDS = 0.02
"""Between two looks whether a server is ready."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    url: str
    database: str
    process: asyncio.subprocess.Process
    start_seconds: float
    """From its start until it was ready."""

    @property
    def target(self) -> Target:
        return Target(self.url, has_threads=self.name != TUTORIAL)

    def cpu_ms(self) -> float:
        return cpu_ms(self.process.pid)

    def memory_bytes(self) -> int:
        return memory_bytes(self.process.pid)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Meanwhile it takes no time of its core, and of PostgreSQL."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def stopped(servers: Iterable[Server]) -> Iterator[None]:
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server.stopped())
        yield


@asynccontextmanager
async def server_process(name: str, database: str, model_url: str, *, graph: str = "plain", **more: str) -> AsyncIterator[Server]:
    """A ready server of one of the KINDS. `graph`: plain or tool. `more`: variables of Slipway's own."""
    port = free_port()
    suffix = "_tool" if graph == "tool" else ""
    env = {**os.environ, "PYTHONPATH": ".", "OPENAI_BASE_URL": model_url, "OPENAI_API_KEY": "sk-1"}
    if name == TUTORIAL:
        command = ["-m", "bench.tutorial", str(port), database, f"own{suffix}"]
    else:
        command = ["-c", "from agent_service.cli import main; main()", "serve"]
        env |= {
            "AUTH": "disabled",
            "DATABASE_URL": database,
            "PORT": str(port),
            "OPS_PORT": "0",
            "LOG_LEVEL": "warning",
            "MODEL": MODEL,
            "AGENT_GRAPH": f"bench.graph:{'own' if name == OWN else 'shared'}{suffix}",
            **more,
        }
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=env, stdout=log, stderr=log)
        try:
            pin(process.pid, SERVER_CPU)
            url = f"http://127.0.0.1:{port}"
            await _until_ready(url, process, log)
            yield Server(name, url, database, process, time.perf_counter() - started)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _until_ready(url: str, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while not await _is_ready(url):
            if process.returncode is not None:
                log.seek(0)
                said = log.read()[-2000:].decode(errors="replace")
                raise RuntimeError(f"the server ended with exit code {process.returncode}: {said}")
            await asyncio.sleep(LOOK_SECONDS)


async def _is_ready(url: str) -> bool:
    try:
        async with await Connection.open(url) as connection:
            await connection.stream("/ready")
    except (OSError, Refused):
        return False
    return True


@asynccontextmanager
async def side_by_side(postgres: Postgres, model_url: str, *, graph: str = "plain", **more: str) -> AsyncIterator[list[Server]]:
    """One of each kind, with a database of its own each."""
    async with AsyncExitStack() as stack:
        servers = []
        for name in KINDS:
            database = stack.enter_context(postgres.database(migrated=name != TUTORIAL))
            variables = {} if name == TUTORIAL else more
            servers.append(await stack.enter_async_context(server_process(name, database, model_url, graph=graph, **variables)))
        yield servers


@asynccontextmanager
async def fake_model() -> AsyncIterator[str]:
    """Its base URL. It runs on the cores of this process."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.model", stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()
