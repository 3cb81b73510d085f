"""Raw connections to a replica, for clients that no library would let one write; and what they cost it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

MB = 1024 * 1024


def resident_mb(pid: int) -> float:
    """Megabytes of a process that are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MB


async def connect(port: int, *, receive_buffer: int = 0) -> socket.socket:
    raw = socket.socket()
    raw.setblocking(False)
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    return raw


@dataclass
class Push:
    """Sends until the server closes, or takes none for two seconds; `sent` bytes were taken."""

    raw: socket.socket
    sent: int = 0

    async def __call__(self, pieces: Iterable[bytes], *, every: float = 0.0) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            for piece in pieces:
                async with asyncio.timeout(2):
                    await asyncio.get_running_loop().sock_sendall(self.raw, piece)
                self.sent += len(piece)
                if every:
                    await asyncio.sleep(every)


async def told(raw: socket.socket, seconds: float = 5.0) -> bytes:
    """What the server says until it closes, or for so long."""
    read = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            while piece := await asyncio.get_running_loop().sock_recv(raw, 65_536):
                read += piece
    return read


async def closed(raw: socket.socket, seconds: float) -> bool:
    """Whether the server closes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            while await asyncio.get_running_loop().sock_recv(raw, 65_536):
                pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@dataclass
class Bystander:
    """A client that asks as a usual one does, and how long it waited at worst."""

    worst: float = 0.0
    answers: int = 0
    failures: list[str] = field(default_factory=list)


@asynccontextmanager
async def bystander(url: str, headers: dict[str, str]) -> AsyncIterator[Bystander]:
    """One that has its first answer, and keeps its connection: a new one may be cut before this busy process uses it."""
    seen = Bystander()
    served = asyncio.Event()

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            while True:
                began = time.monotonic()
                try:
                    answer = await client.get(url, headers=headers)
                    seen.answers += 1
                    if answer.status_code != 200:
                        seen.failures.append(f"{answer.status_code} {answer.text[:80]}")
                except httpx.HTTPError as error:
                    seen.failures.append(repr(error))
                seen.worst = max(seen.worst, time.monotonic() - began)
                served.set()
                await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    try:
        await served.wait()
        yield seen
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
