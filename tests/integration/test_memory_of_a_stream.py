"""What an open stream of which nothing comes takes of memory, and the run behind it: counted by Python's own allocator.

A route's frames that live on while it streams, a task or a copy more for each run shows here. The clients are bare sockets and
the model is another process, so that all that is counted is the service's.
"""

import asyncio
import gc
import socket
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from agent_service.runs.live_run import LiveRun
from tests.support.fake_model import FakeModel
from tests.support.figures import Report
from tests.support.service import RunningService, running_service

FIRST, COUNT = 20, 60
"""Streams: the first ones load what stays."""

MOST = {"kB of a run and its stream": 130.0, "kB of a reader": 26.0, "tasks of a run and its stream": 8, "tasks of a reader": 2}
"""When this was written: 124 kB and 7 tasks, of which LangGraph and langchain make four; 22 to 24 kB and 2 tasks."""

ENDED, KEPT = 12, 6
"""Runs one after the other, and how many of them may be in memory at the end: a connection that is kept open has the context of
the run that opened it, and the last run may not be through."""

SILENT = {"tokens": ["word"], "first_token_seconds": 600.0}


@pytest.fixture
async def silent_model() -> AsyncIterator[str]:
    """Base URL of a model in a process of its own that never says its first token."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.fake_model", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        url = (await process.stdout.readline()).decode().strip()
        async with httpx.AsyncClient() as client:
            await client.post(f"{url.removesuffix('/v1')}/_control", json=SILENT)
        yield url
    finally:
        process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Held:
    """By this process."""

    kilobytes: float
    tasks: int

    @classmethod
    def now(cls) -> "Held":
        gc.collect()
        return cls(tracemalloc.get_traced_memory()[0] / 1000, len(asyncio.all_tasks()))

    def each_since(self, before: "Held", of: str) -> dict[str, float]:
        """Of each of COUNT things that came since."""
        return {
            f"kB of {of}": (self.kilobytes - before.kilobytes) / COUNT,
            f"tasks of {of}": (self.tasks - before.tasks) / COUNT,
        }


class Clients:
    """Of one service, which they ask and from which they read nothing."""

    def __init__(self, service: RunningService, model_url: str, stack: ExitStack) -> None:
        self._service, self._stack = service, stack
        self._asked = f"{model_url.removesuffix('/v1')}/_requests"
        self._streams = self._runs = 0

    def _send(self, count: int, request: str, body: str = "") -> None:
        address = urlsplit(self._service.url)
        head = f"{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(count):
            client = self._stack.enter_context(socket.create_connection((str(address.hostname), int(address.port or 0))))
            client.sendall((head + body).encode())
        self._streams += count

    async def ask(self, count: int) -> None:
        """So many runs, each with a stream; returns when all of them wait for the model."""
        self._send(count, "POST /chat/stream", '{"question":"hello"}')
        self._runs += count
        async with httpx.AsyncClient() as client:
            while len((await client.get(self._asked)).json()) < self._runs:
                await asyncio.sleep(0.05)
        await self._until_open()

    async def run_id(self) -> str:
        """Of a run that nobody reads."""
        async with self._service.client() as client:
            accepted = await client.post("/chat", json={"question": "hello"}, headers={"Prefer": "respond-async"})
        return str(accepted.json()["run_id"])

    async def read(self, run_id: str, count: int) -> None:
        """So many streams of one run."""
        self._send(count, f"GET /runs/{run_id}/stream")
        await self._until_open()

    async def _until_open(self) -> None:
        while await self._service.metric("agent_streams_open") < self._streams:
            await asyncio.sleep(0.05)


async def test_an_open_stream_and_its_run_take_so_much_memory(database_url: str, silent_model: str, report: Report) -> None:
    env = {"MODEL": "fake-1", "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with running_service(database_url, OPENAI_BASE_URL=silent_model, MAX_CONCURRENT_RUNS="100", **env) as service:
        with ExitStack() as stack:
            clients = Clients(service, silent_model, stack)
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            await clients.ask(FIRST)
            before = Held.now()
            await clients.ask(COUNT)
            each = Held.now().each_since(before, "a run and its stream")
            run_id = await clients.run_id()
            await clients.read(run_id, FIRST)
            before = Held.now()
            await clients.read(run_id, COUNT)
            each |= Held.now().each_since(before, "a reader")
    report("an open stream: " + ", ".join(f"{number:.1f} {name}" for name, number in each.items()))
    assert {name: number for name, number in each.items() if number > MOST[name]} == {}


def live_runs() -> int:
    """That anybody in this process keeps."""
    gc.collect()
    return sum(isinstance(each, LiveRun) for each in gc.get_objects())


async def test_runs_that_have_ended_are_not_kept(database_url: str, report: Report) -> None:
    env = {"MODEL": "fake-1", "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with (
        FakeModel() as fake,
        running_service(database_url, OPENAI_BASE_URL=fake.url, **env) as service,
        service.client() as client,
    ):
        before = live_runs()
        for _ in range(ENDED):
            response = await client.post("/chat/stream", json={"question": "hello"})
            assert response.text.rstrip().endswith("[DONE]")
        kept = live_runs() - before
    report(f"of {ENDED} runs that have ended {kept} are kept")
    assert kept <= KEPT
