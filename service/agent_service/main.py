"""`slipway serve`: one process, from settings to exit."""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import structlog
import uvicorn

from agent_service.api.app import create_app, with_middleware
from agent_service.health import Health
from agent_service.metrics import Metrics
from agent_service.ops import OpsServer, serve_ops
from agent_service.resources import VERSION, Resources, make_metrics, open_resources
from agent_service.server.connections import Connections
from agent_service.server.limits import Limits
from agent_service.server.listener import limits_that_files_allow, listen, server_config
from agent_service.server.ports import opening
from agent_service.settings import Settings

log = structlog.stdlib.get_logger(__name__)

CONNECTIONS_SECONDS = 5
"""For ordinary requests that are still being answered when the port closes; streams have ended by then."""

EXIT_SECONDS = 3.0
"""How long, after all is handed over and closed, tasks that were cancelled may take to end."""

COLLECT_AFTER = 10_000
"""New objects after which Python looks for cycles among them: about 2 MB, and what they hold. Its own 700 let it look a
hundred times a second at load: a tenth of a turn's CPU. With 50,000 bodies of connections that were cut stayed for long."""

HAND_OVER_SECONDS = 5.0
"""How long, at the drain limit, a step may take to reach its boundary before it is cancelled."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STREAMS_SECONDS = 5.0
"""How long a slow reader may take to receive its last event."""


Beside = Callable[[Resources], Coroutine[Any, Any, None]]
"""What goes on beside a service, from when it is ready until it drains. The process ends when it does."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A service that answers on its ports."""

    url: str
    ops: OpsServer
    resources: Resources
    answering: asyncio.Task[None]
    """The API port's server; it does not end before the service is left."""


@asynccontextmanager
async def serving(settings: Settings, hurry: asyncio.Event) -> AsyncIterator[Serving]:
    """The service, put together, open and answering. Left, it drains: with the time of the settings until `hurry` is set.

    Signals and what else belongs to a whole process are the caller's.

    Raises:
        SettingsError, SchemaMismatch: before the API port opens.
    """
    health = Health(VERSION, settings.liveness_timeout)
    metrics = make_metrics(settings)
    with opening("OPS_PORT", settings.ops_address, settings.ops_port):
        ops = OpsServer((settings.ops_address, settings.ops_port), health, metrics.registry)
    with serve_ops(ops):
        async with open_resources(settings, health, metrics) as resources:
            ops.status = resources.status
            listener = _listen(settings)
            url = f"http://{settings.host}:{listener.getsockname()[1]}"
            connections = _api_connections(settings, metrics)
            app = with_middleware(create_app(resources), resources)
            config = server_config(app, connections, loop="none", timeout_graceful_shutdown=CONNECTIONS_SECONDS)
            server = Server(config)
            answering = asyncio.create_task(server.serve(sockets=[listener]), name="server")
            try:
                yield Serving(url, ops, resources, answering)
            finally:
                await drain(settings, resources, hurry=hurry)
                server.should_exit = True
                await answering


async def serve(settings: Settings, on_ready: Callable[[str, int], None], beside: Beside | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then lets runs finish.

    Raises:
        SettingsError, SchemaMismatch: before the API port opens.
    """
    with _stop_signals() as stop:
        async with serving(settings, stop.hurry) as service:
            stop.listen()
            service.resources.tracing.adopt_process()
            if settings.auth == "disabled":
                log.warning("auth_disabled", effect="anyone who reaches this address has the role platform")
            log.info("serving", url=service.url, ops_port=service.ops.port, version=VERSION)
            on_ready(service.url, service.ops.port)
            others = [beside(service.resources)] if beside else []
            await _first(stop.asked.wait(), asyncio.wait([service.answering]), *others)


def _api_connections(settings: Settings, metrics: Metrics) -> Connections:
    """The API port's connections, with the limits of the settings."""
    limits = Limits(
        connections=settings.max_connections,
        connections_per_address=settings.max_connections_per_address,
        head_seconds=settings.request_seconds,
        body_seconds=settings.request_seconds,
        idle_seconds=settings.idle_seconds,
        write_seconds=settings.unread_seconds,
        max_body_bytes=settings.max_body_bytes,
    )
    on_cut = lambda reason: metrics.connections_cut.labels(reason).inc()  # noqa: E731  # as short as its use
    return Connections(limits_that_files_allow(limits), metrics.connections_open.set, on_cut)


async def drain(settings: Settings, resources: Resources, *, hurry: asyncio.Event) -> None:
    """The way out, in an order that loses nothing. The port stays open until the end, so that probes get a real 503.

    1. /ready says 503 and no run is taken: what still arrives is queued for the peers.
    2. Runs finish here; at the limit (or when hurried) the rest is handed over, their events and costs written first.
    3. Streams say `reconnect` and end; then the port is closed (by the caller), telemetry is flushed, the pool closed.
    """
    log.info("draining", runs=resources.worker.in_flight)
    resources.health.draining = True
    resources.metrics.draining.set(1)
    resources.metrics.drain_started.set_to_current_time()
    resources.worker.stop_taking()
    noticed = asyncio.create_task(_first(hurry.wait(), asyncio.sleep(settings.drain_min_seconds)))
    await _first(hurry.wait(), resources.worker.finish(settings.drain_seconds))
    await resources.worker.hand_over(0 if hurry.is_set() else HAND_OVER_SECONDS)
    await noticed
    await resources.streams.close(STREAMS_SECONDS)
    log.info("drained")


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Waits for whichever ends first."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


class Server(uvicorn.Server):
    """Leaves signals alone: uvicorn would close its port at once on SIGTERM, and probes would be refused; we drain first.

    It would also raise the signal again at the end, and the exit code would not be 0.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Stop:
    """What signals ask for: the first to stop, the second to hurry."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def listen(self) -> None:
        """From now on. Not by the loop's own handlers: they are called at its next turn only."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # Python's signature
        """Between two bytecodes."""
        event = self.hurry if self.asked.is_set() else self.asked
        self._loop.call_soon_threadsafe(event.set)


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Handlers are as before once it is left."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield _Stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(settings: Settings) -> socket.socket:
    with opening("PORT", settings.host, settings.port):
        return listen(settings.host, settings.port, write_seconds=settings.unread_seconds)


def run(settings: Settings, on_ready: Callable[[str, int], None], beside: Beside | None = None) -> None:
    """`serve` on uvloop. Does not return where a thread or task of the graph would keep the process alive."""
    exit_timer = threading.Timer(EXIT_SECONDS, _exit_at_once)
    exit_timer.daemon = True
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner, suppress(asyncio.CancelledError):
            try:
                runner.run(_until_signal(settings, on_ready, beside))
            finally:
                exit_timer.start()  # the runner waits for every task, also for one that refuses to be cancelled
    finally:
        exit_timer.cancel()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
        _exit_at_once()  # LangGraph's own threads, under a sync node: the interpreter would wait for them


def _exit_at_once() -> None:
    """All runs are handed over and their events written by now."""
    log.warning("exiting_while_graph_code_runs")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _collect_seldom() -> None:
    """What is here once the service is ready stays to the end, as what it has imported: the collector need not look at it."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


async def _until_signal(settings: Settings, on_ready: Callable[[str, int], None], beside: Beside | None) -> None:
    """A SIGTERM while the database is waited for ends the process too; as PID 1 it has no default to do so."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # we are in one
    loop = asyncio.get_running_loop()
    # Not the loop's own handler: it is called at the loop's next turn, and is lost when uvicorn takes its place before.
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(task.cancel))

    def ready(address: str, ops_port: int) -> None:
        _collect_seldom()
        on_ready(address, ops_port)

    await serve(settings, ready, beside)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # not on Windows
    except ImportError:
        return None
    return uvloop.Loop
