"""Debian's programs as processes of a test: on a free loopback port, ready, and gone afterwards."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

READY_SECONDS = 30.0


def program(name: str, package: str) -> str:
    """Path of a program; skips the test where it is missing."""
    path = shutil.which(name)
    if not path:
        pytest.skip(f"needs {name} (Debian package {package})")
    return path


@asynccontextmanager
async def serving(command: Sequence[str | Path], url: str, log: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `url` while the process serves it. It is ready when `/-/ready` answers 200."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            async with asyncio.timeout(READY_SECONDS):
                while not await _is_ready(client):
                    assert process.returncode is None, f"{command[0]} ended: see {log}"
                    await asyncio.sleep(0.05)
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _is_ready(client: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await client.get("/-/ready")).status_code == httpx.codes.OK
    return False
