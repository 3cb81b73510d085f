"""Replicas of the service as real processes: started, stopped, killed, paused."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.warm import Process, warm

READY_SECONDS = 60.0


@dataclass(eq=False)
class Replica:
    """One `slipway serve`; `log` holds what it wrote. `anew`: by a new interpreter, as a user starts it."""

    env: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    ops_port: int = field(default_factory=free_port)
    process: Process | asyncio.subprocess.Process | None = None
    anew: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    async def start(self) -> None:
        env = {**os.environ, **self.env, "PORT": str(self.port), "OPS_PORT": str(self.ops_port), "PYTHONFAULTHANDLER": "1"}
        if self.anew or "LD_PRELOAD" in self.env:
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", "from agent_service.cli import main; main()", "serve", env=env, stdout=log, stderr=log
                )
        else:
            self.process = await asyncio.to_thread(warm().start, ["serve"], env, self.log)
        async with httpx.AsyncClient() as client, asyncio.timeout(READY_SECONDS):
            while not await is_ready(client, self.ops_url):
                if self.process.returncode is not None:
                    raise RuntimeError(f"exit code {self.process.returncode}: {self.log.read_text()[-2000:]}")
                await asyncio.sleep(0.05)

    @property
    def dead(self) -> bool:
        return self.process is None or self.process.returncode is not None

    def send(self, number: signal.Signals) -> None:
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def wait(self, seconds: float = 60.0) -> int:
        assert self.process
        async with asyncio.timeout(seconds):
            if isinstance(self.process, Process):
                return await asyncio.wrap_future(self.process.ended)
            return await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.wait()


async def is_ready(client: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await client.get(f"{url}/ready")).status_code == 200
    return False


@asynccontextmanager
async def running_replicas(
    count: int, env: dict[str, str], folder: Path, each: Sequence[dict[str, str]] = (), *, anew: bool = False
) -> AsyncIterator[list[Replica]]:
    """So many ready replicas, with `each` one's own variables; killed at the end, whatever happened."""
    own = [*each, *([{}] * (count - len(each)))]
    replicas = [Replica({"AUTH": "disabled", **env, **own[n]}, folder / f"replica-{n}.log", anew=anew) for n in range(count)]
    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield replicas
    finally:
        await stop_all(replicas)


async def stop_all(replicas: Iterable[Replica]) -> None:
    for replica in replicas:
        if replica.process and replica.process.returncode is None:
            replica.send(signal.SIGCONT)
            await replica.kill()
