"""`make bench`: Slipway beside the tutorial way in one run. Ratios carry over to other machines, figures do not."""

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass, fields
from typing import Any

import aiohttp

from bench import servers
from bench.load import Turn, ask, closed_loop
from tests.support.postgres import ensure_template, fresh_database, start_server

REPETITIONS = 3
"""Interleaved; medians are shown. One measurement on a shared machine may be off by half."""

CLIENTS, TURNS = 16, 160
WARM_UP = 20
SINGLE_TURNS = 20
STREAMS, STREAM_TOKENS, TOKENS_PER_SECOND = 50, 100, 50
ALL_TURNS = REPETITIONS * (WARM_UP + SINGLE_TURNS + TURNS + STREAMS)
FAST = {"token_count": 50}
PACED = {"token_count": STREAM_TOKENS, "tokens_per_second": TOKENS_PER_SECOND}


@dataclass(frozen=True)
class Figures:
    """One repetition for one server. Names are the row's title, underscores aside."""

    CPU_ms_a_turn_of_50_tokens: float
    turns_a_second: float
    first_text_alone_ms: float
    CPU_ms_a_paced_stream: float
    paced_gap_p95_ms: float


@dataclass(frozen=True, slots=True)
class Bench:
    session: aiohttp.ClientSession
    model_url: str

    async def script(self, script: dict[str, Any]) -> None:
        async with self.session.post(f"{self.model_url.removesuffix('/v1')}/_control", json=script) as response:
            response.raise_for_status()

    async def turns(self, server: servers.Server, count: int, clients: int) -> list[Turn]:
        """Asks the same question; a single wrong character in any answer ends the bench."""
        turns = await closed_loop(count, clients, lambda _: ask(self.session, server.url, "What is a lease?"))
        expected = await self._said("What is a lease?")
        if wrong := [turn.text for turn in turns if turn.text != expected]:
            raise SystemExit(f"{server.name}: {len(wrong)} of {count} answers differ from the model's: {wrong[0]!r}")
        return turns

    async def _said(self, question: str) -> str:
        payload = {"model": "fake-1", "messages": [{"role": "user", "content": question}]}
        async with self.session.post(f"{self.model_url}/chat/completions", json=payload) as response:
            return str(json.loads(await response.read())["choices"][0]["message"]["content"])

    async def measure(self, server: servers.Server) -> Figures:
        loop = asyncio.get_running_loop()
        await self.script(FAST)
        await self.turns(server, WARM_UP, CLIENTS)
        alone = await self.turns(server, SINGLE_TURNS, 1)
        cpu, started = server.cpu_seconds(), loop.time()
        await self.turns(server, TURNS, CLIENTS)
        seconds, busy = loop.time() - started, server.cpu_seconds() - cpu
        await self.script(PACED)
        cpu = server.cpu_seconds()
        streams = await self.turns(server, STREAMS, STREAMS)
        gaps = sorted(gap for turn in streams for gap in turn.gaps)
        return Figures(
            1000 * busy / TURNS,
            TURNS / seconds,
            1000 * statistics.median(turn.first for turn in alone),
            1000 * (server.cpu_seconds() - cpu) / STREAMS,
            1000 * gaps[int(0.95 * len(gaps))],
        )


@asynccontextmanager
async def both(stack: AsyncExitStack, model_url: str) -> AsyncIterator[list[servers.Server]]:
    admin = start_server("bench")
    ensure_template(admin)
    empty = stack.enter_context(fresh_database(admin, template="template0"))
    migrated = stack.enter_context(fresh_database(admin))
    async with servers.tutorial(model_url, empty) as tutorial, servers.slipway(model_url, migrated) as slipway:
        yield [tutorial, slipway]


async def bench() -> str:
    servers.pin(0, servers.OTHERS_CPU)
    results: dict[str, list[Figures]] = {}
    async with AsyncExitStack() as stack:
        model_url = await stack.enter_async_context(servers.fake_model())
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        running = await stack.enter_async_context(both(stack, model_url))
        before = [server.commits() for server in running]
        for repetition in range(REPETITIONS):
            for server in running:
                print(f"{server.name}, repetition {repetition + 1} of {REPETITIONS} …", flush=True)
                results.setdefault(server.name, []).append(await Bench(session, model_url).measure(server))
        await asyncio.sleep(servers.STATISTICS_SECONDS)
        commits = [(server.commits() - start) / ALL_TURNS for server, start in zip(running, before, strict=True)]
    return table(results, commits)


def table(results: dict[str, list[Figures]], commits: list[float]) -> str:
    """Medians, and tutorial / Slipway for each row."""
    medians = [[statistics.median(column) for column in zip(*map(astuple, runs), strict=True)] for runs in results.values()]
    named = [(field.name.replace("_", " "), *pair) for field, *pair in zip(fields(Figures), *medians, strict=True)]
    rows = [
        f"| {name} | {first:.1f} | {second:.1f} | {first / second:.1f} |"
        for name, first, second in [*named, ("database commits a turn", *commits)]
    ]
    return "\n".join([f"| | {' | '.join(results)} | ratio |", "| --- | --- | --- | --- |", *rows])


if __name__ == "__main__":
    print(asyncio.run(bench()))
