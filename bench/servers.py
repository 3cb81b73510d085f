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
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from bench.client import Connection, Refused
from bench.database import Postgres, as_url
from bench.load import Target
from bench.processes import SERVER_CPU, cpu_ms, memory_bytes, pin
from bench.script import MODEL
from bench.support import free_port, prepared_reference

TUTORIAL, SHARED, OWN, DIRECT = "tutorial", "Slipway, the server's model", "Slipway, its own ChatOpenAI", "direct line"

KINDS = (SHARED, OWN, TUTORIAL)
"""The three side by side, in the order of each repetition."""

LIMITED = "Slipway, every limit on"
"""With the server's model, too."""

LIMITS = {
    "RATE_LIMIT_PER_MINUTE": "1000000",
    "MAX_RUNS_PER_PRINCIPAL": "1000",
    "MAX_RUN_TOKENS": "2000000",
    "MAX_RUN_USD": "1000",
    "DAILY_TOKEN_LIMIT": "1000000000000",
    "DAILY_USD_LIMIT": "100000",
    "MONTHLY_TENANT_TOKEN_LIMIT": "1000000000000",
    "MONTHLY_TENANT_USD_LIMIT": "100000",
}
"""So high that none is met: what is measured is counting."""

REFERENCE = "langgraph dev"
REFERENCE_PROGRAM = os.environ.get("REFERENCE_LANGGRAPH", "")
"""Of an environment of its own, with langgraph-cli[inmem] and langchain-openai. Empty: it is not measured."""

REFERENCE_GRAPH = "from bench.graph import own\nagent = own().compile()\n"
REFERENCE_JOBS = 16
"""Runs that it executes at a time: as many as ask."""

AEGRA = "Aegra"
AEGRA_PROGRAM = os.environ.get("REFERENCE_AEGRA", "")
"""uvicorn of an environment of its own, with aegra-api and langchain-openai. Empty: it is not measured."""

READY_SECONDS = 60.0
LOOK_SECONDS = 0.02
"""Between two looks whether a server is ready."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    url: str
    database: str
    """Its address; empty: none."""
    process: asyncio.subprocess.Process
    start_seconds: float
    """From its start until it was ready."""

    @property
    def target(self) -> Target:
        return Target(self.url, has_threads=self.name != TUTORIAL, says_end=self.name != REFERENCE)

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
    async with _started([sys.executable, *command], env, f"http://127.0.0.1:{port}") as (process, seconds):
        yield Server(name, f"http://127.0.0.1:{port}", database, process, seconds)


@asynccontextmanager
async def reference_process(model_url: str) -> AsyncIterator[Server]:
    """`langgraph dev` with the graph that has a ChatOpenAI of its own; its state is in memory, it has no database."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-reference-") as folder:
        (Path(folder) / "served.py").write_text(REFERENCE_GRAPH, encoding="utf-8")
        served = {"agent": "./served.py:agent"}
        arguments, env = prepared_reference(Path(folder), port, model_url, served, jobs=REFERENCE_JOBS)
        command = [REFERENCE_PROGRAM, *arguments]
        env |= {"PYTHONPATH": str(Path.cwd()), "LOG_LEVEL": "WARNING"}
        async with _started(command, env, f"http://127.0.0.1:{port}", ready="/ok", folder=folder) as (process, seconds):
            yield Server(REFERENCE, f"http://127.0.0.1:{port}", "", process, seconds)


@asynccontextmanager
async def aegra_process(database: str, model_url: str) -> AsyncIterator[Server]:
    """Aegra as one process with the same graph, its state in PostgreSQL, its streams in memory: what costs it least."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-aegra-") as folder:
        (Path(folder) / "served.py").write_text(REFERENCE_GRAPH, encoding="utf-8")
        (Path(folder) / "aegra.json").write_text('{"graphs": {"agent": "./served.py:agent"}}', encoding="utf-8")
        env = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "OPENAI_BASE_URL": model_url,
            "OPENAI_API_KEY": "sk-1",
            "DATABASE_URL": as_url(database),
            "AEGRA_CONFIG": "aegra.json",
            "LOG_LEVEL": "WARNING",
            "LANGSMITH_TRACING": "false",
        }
        command = [AEGRA_PROGRAM, "aegra_api.main:app", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        async with _started(command, env, f"http://127.0.0.1:{port}", folder=folder) as (process, seconds):
            yield Server(AEGRA, f"http://127.0.0.1:{port}", database, process, seconds)


@asynccontextmanager
async def _started(
    command: list[str], env: dict[str, str], url: str, *, ready: str = "/ready", folder: str | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, float]]:
    """The process on its core, once it is ready, and after how many seconds it was."""
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*command, env=env, cwd=folder, stdout=log, stderr=log)
        try:
            pin(process.pid, SERVER_CPU)
            await _until_ready(url + ready, process, log)
            yield process, time.perf_counter() - started
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
            await connection.stream(urlsplit(url).path)
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
