"""`python -m bench.telemetry`: what metrics and traces cost of a turn's CPU. Ratios carry over, figures do not."""

import asyncio
import statistics
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import aiohttp
import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

from agent_service.logs import setup_logging
from bench import servers
from bench.__main__ import CLIENTS, FAST, TURNS, WARM_UP, Bench
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.otlp import collector
from tests.support.postgres import ensure_template, fresh_database, start_server
from tests.support.service import running_service

REPETITIONS = 3
COUNTED_TURNS = 20
"""Turns over which calls are counted; each turn makes the same ones."""

CALLS = 50_000
"""Of each kind, timed to know what one costs."""

RECORDED: list[tuple[type, str]] = [
    (MetricWrapperBase, "labels"),
    (prometheus_client.Counter, "inc"),
    (prometheus_client.Gauge, "set"),
    (prometheus_client.Histogram, "observe"),
]
"""All that the service does to record something."""


@contextmanager
def counted() -> Iterator[Tally[str]]:
    """Counts the calls of RECORDED while it is open."""
    tally: Tally[str] = Tally()
    originals = [(kind, name, getattr(kind, name)) for kind, name in RECORDED]

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tally[name] += 1
            return original(*args, **kwargs)

        return call

    try:
        for kind, name, original in originals:
            setattr(kind, name, counting(name, original))
        yield tally
    finally:
        for kind, name, original in originals:
            setattr(kind, name, original)


def seconds_of_a_call() -> dict[str, float]:
    """CPU seconds of one call of each kind."""
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("counter", "-", ["label"], registry=registry)
    gauge = prometheus_client.Gauge("gauge", "-", registry=registry)
    histogram = prometheus_client.Histogram("histogram", "-", registry=registry)
    child = counter.labels("x")
    kinds: dict[str, Callable[[], Any]] = {
        "labels": lambda: counter.labels("x"),
        "inc": child.inc,
        "set": lambda: gauge.set(1),
        "observe": lambda: histogram.observe(0.3),
    }
    return {name: _cpu(call) / CALLS for name, call in kinds.items()}


def _cpu(call: Callable[[], Any]) -> float:
    started = time.process_time()
    for _ in range(CALLS):
        call()
    return time.process_time() - started


async def calls_of_a_turn(database: str) -> dict[str, float]:
    async with (
        FakeModel(Script(token_count=50)) as model,
        running_service(
            database, AGENT_GRAPH="bench.graph:build", MODEL=servers.MODEL, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="sk-1"
        ) as service,
        service.client() as client,
    ):
        await client.post("/chat", json={"question": "hi"})
        with counted() as tally:
            for _ in range(COUNTED_TURNS):
                await client.post("/chat", json={"question": "hi"})
    return {name: count / COUNTED_TURNS for name, count in tally.items()}


async def turn_seconds(admin: str) -> dict[str, float]:
    """CPU seconds of a turn, with traces off and on; interleaved, medians."""
    results: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        model_url = await stack.enter_async_context(servers.fake_model())
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        traces = stack.enter_context(collector("http/protobuf"))
        load = Bench(session, model_url)
        await load.script(FAST)
        running = []
        for name, env in (("traces off", {}), ("traces on", traces.env)):
            database = stack.enter_context(fresh_database(admin))
            running.append(await stack.enter_async_context(servers.slipway(model_url, database, name, **env)))
        for _ in range(REPETITIONS):
            for server in running:
                await load.turns(server, WARM_UP, CLIENTS)
                cpu = server.cpu_seconds()
                await load.turns(server, TURNS, CLIENTS)
                results.setdefault(server.name, []).append((server.cpu_seconds() - cpu) / TURNS)
        if not traces.requests:
            raise SystemExit("no span arrived: this measured nothing")
    return {name: statistics.median(seconds) for name, seconds in results.items()}


async def bench() -> str:
    servers.pin(0, servers.OTHERS_CPU)
    admin = start_server("bench")
    ensure_template(admin)
    with fresh_database(admin) as database:
        calls = await calls_of_a_turn(database)
    each = seconds_of_a_call()
    turn = await turn_seconds(admin)
    off, on = turn["traces off"], turn["traces on"]
    metrics = sum(each[name] * count for name, count in calls.items())
    return "\n".join(
        [
            f"metric calls a turn: {', '.join(f'{name} {count:g}' for name, count in sorted(calls.items()))}",
            f"recording metrics: {metrics * 1e6:.0f} us of a turn's {off * 1e3:.2f} ms CPU = {metrics / off:.1%}",
            f"traces on: {on * 1e3:.2f} ms CPU a turn, {on / off:.2f} times that of traces off",
        ]
    )


if __name__ == "__main__":
    setup_logging("warning")
    print(asyncio.run(bench()))
