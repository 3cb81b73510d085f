"""`python -m bench.telemetry`: what metrics and traces cost of a turn's CPU. Ratios carry over, figures do not."""

import asyncio
import statistics
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

from agent_service.logs import setup_logging
from bench import servers
from bench.database import Postgres, postgres
from bench.load import closed_loop
from bench.processes import OTHERS_CPU, pin
from bench.script import MODEL, Ask
from bench.support import FakeModel, Script, collector, running_service

REPETITIONS = 3
CLIENTS, SECONDS, WARM_UP_SECONDS = 16, 3.0, 0.5
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
            database, AGENT_GRAPH="bench.graph:shared", MODEL=MODEL, OPENAI_BASE_URL=model.url, OPENAI_API_KEY="sk-1"
        ) as service,
        service.client() as client,
    ):
        await client.post("/chat", json={"question": "hi"})
        with counted() as tally:
            for _ in range(COUNTED_TURNS):
                await client.post("/chat", json={"question": "hi"})
    return {name: count / COUNTED_TURNS for name, count in tally.items()}


async def turn_seconds(database: Postgres) -> dict[str, float]:
    """CPU seconds of a turn, with traces off and on; interleaved, medians."""
    results: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        model_url = await stack.enter_async_context(servers.fake_model())
        traces = stack.enter_context(collector("http/protobuf"))
        running: dict[str, servers.Server] = {}
        for name, env in (("traces off", {}), ("traces on", traces.env)):
            url = stack.enter_context(database.database(migrated=True))
            running[name] = await stack.enter_async_context(servers.server_process(servers.SHARED, url, model_url, **env))
        for _ in range(REPETITIONS):
            for name, server in running.items():
                await closed_loop(server.target, CLIENTS, WARM_UP_SECONDS, lambda number: Ask(number=number))
                cpu = server.cpu_ms()
                turns = await closed_loop(server.target, CLIENTS, SECONDS, lambda number: Ask(number=number))
                results.setdefault(name, []).append((server.cpu_ms() - cpu) / len(turns) / 1000)
        if not traces.requests:
            raise SystemExit("no span arrived: this measured nothing")
    return {name: statistics.median(seconds) for name, seconds in results.items()}


async def bench() -> str:
    pin(0, OTHERS_CPU)
    with postgres() as server:
        with server.database(migrated=True) as database:
            calls = await calls_of_a_turn(database)
        each = seconds_of_a_call()
        turn = await turn_seconds(server)
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
