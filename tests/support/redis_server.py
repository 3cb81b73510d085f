"""A real Redis on a free loopback port, which may be stopped and started."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.ports import free_port
from tests.support.programs import program

READY_SECONDS = 20.0


@dataclass
class Redis:
    port: int = field(default_factory=free_port)
    password: str = ""
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}" if self.password else f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        command = [program("redis-server", "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *command, "--appendonly", "no", "--requirepass", self.password, stdout=quiet, stderr=quiet
        )
        async with asyncio.timeout(READY_SECONDS):
            while not await self._answers():
                assert self._process.returncode is None
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            await writer.wait_closed()
            return True
        return False


@asynccontextmanager
async def running_redis(redis: Redis | None = None) -> AsyncIterator[Redis]:
    redis = redis or Redis()
    try:
        await redis.start()
        yield redis
    finally:
        await redis.stop()


SERVERS = ("postgres", "redis")


@asynccontextmanager
async def counted_by(server: str) -> AsyncIterator[dict[str, str]]:
    """Settings of a service for which one of SERVERS counts callers' runs and keeps answers."""
    async with contextlib.AsyncExitStack() as stack:
        yield {"REDIS_URL": (await stack.enter_async_context(running_redis())).url} if server == "redis" else {}
