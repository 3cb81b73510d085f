"""The load: turns of a closed loop of clients, each read to its end, its text compared with what the model said."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp


@dataclass(slots=True)
class Turn:
    """Seconds from the request to the first text and to the end; gaps between reads that brought text."""

    text: str = ""
    first: float = 0.0
    total: float = 0.0
    gaps: list[float] = field(default_factory=list)


def unnamed_text(block: bytes) -> str | None:
    """Text of an SSE event without a name; None for every other."""
    lines = block.decode().split("\n")
    if any(line.startswith("event:") for line in lines):
        return None
    data = [line.removeprefix("data:").removeprefix(" ") for line in lines if line.startswith("data:")]
    return "\n".join(data) if data else None


async def ask(session: aiohttp.ClientSession, url: str, question: str) -> Turn:
    turn, started, rest = Turn(), time.perf_counter(), b""
    last = 0.0
    async with session.post(f"{url}/chat/stream", json={"question": question}) as response:
        response.raise_for_status()
        async for data in response.content.iter_any():
            *blocks, rest = (rest + data).split(b"\n\n")
            texts = [text for block in blocks if (text := unnamed_text(block)) is not None and text != "[DONE]"]
            now = time.perf_counter()
            if texts:
                turn.text += "".join(texts)
                turn.first = turn.first or now - started
                turn.gaps += [now - last] if last else []
                last = now
    turn.total = time.perf_counter() - started
    return turn


async def closed_loop(count: int, clients: int, turn: Callable[[int], Awaitable[Turn]]) -> list[Turn]:
    """`count` turns by so many clients at once."""
    numbers, turns = itertools.count(), []

    async def client() -> None:
        while (number := next(numbers)) < count:
            turns.append(await turn(number))

    await asyncio.gather(*(client() for _ in range(clients)))
    return turns
