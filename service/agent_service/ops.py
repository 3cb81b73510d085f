"""The ops port: probes, metrics and status, served by a thread of its own.

A blocked event loop still answers here, so that the kubelet does not kill a pod that is only busy. The thread has a loop
of its own with the API port's protocol: the limits of what a client may send, hold and leave unread are the same.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from uvicorn.server import ServerState

from agent_service.health import Health, StatusReport
from agent_service.server.connections import Connections
from agent_service.server.limits import Limits
from agent_service.server.listener import listen, server_config

log = structlog.stdlib.get_logger(__name__)

JSON = "application/json"

LIMITS = Limits(connections=500, max_body_bytes=0, head_seconds=5, body_seconds=5)
"""Kubelet, Prometheus, operator and doctor need about ten, and are near. More than the kernel hands over at once (128), so
that none is pushed out by a flood before it is read."""

NOT_FOUND = b'{"code":"not_found","detail":"the ops port has /live /ready /health /metrics /status"}'
NOT_ALLOWED = b'{"code":"method_not_allowed","detail":"the ops port takes GET and HEAD"}'

Answer = tuple[int, str, bytes]
"""Status, content type, body."""


class OpsServer:
    """Listens from the start; answers while `serve_ops` runs.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(self, address: tuple[str, int], health: Health, registry: CollectorRegistry) -> None:
        self.health = health
        self.registry = registry
        self.status: Callable[[], StatusReport | dict[str, object]] = dict
        self._socket = listen(*address, write_seconds=LIMITS.write_seconds)
        self.port = int(self._socket.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  # ASGI
        status, content_type, body = self._answer(scope)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Any) -> Answer:
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, JSON, NOT_ALLOWED
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        try:
            return self.answer(scope["path"], accept)
        except Exception:
            log.exception("ops_port_failed", path=scope["path"])
            return 500, JSON, b'{"code":"internal","detail":"it is in the log"}'

    def answer(self, path: str, accept: str) -> Answer:
        """The answer to a GET. `accept` chooses between the formats of the metrics."""
        match path:
            case "/live":
                return live(self.health)
            case "/ready":
                return ready(self.health)
            case "/health":
                return health_report(self.health)
            case "/status":
                return 200, JSON, orjson.dumps(self.status())
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return 200, content_type, encode(self.registry)
        return 404, JSON, NOT_FOUND

    def run(self) -> None:
        """In the thread, until `stop`."""
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        config = server_config(self, Connections(LIMITS))
        config.load()
        state = ServerState()

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=self._loop)  # type: ignore[call-arg]  # uvicorn calls it so, too

        server = await self._loop.create_server(protocol, sock=self._socket, backlog=128)
        try:
            await self._stopped.wait()
        finally:
            server.close()
            await _close(state)

    def stop(self) -> None:
        """From any thread; also before it answers, as when the process does not start."""
        self._loop.call_soon_threadsafe(self._stopped.set)


async def _close(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.transport.abort()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=1)
    await asyncio.sleep(0)  # in which connections learn that they are lost


def live(health: Health) -> Answer:
    """503 once the event loop has been silent for LIVENESS_TIMEOUT: the kubelet restarts the pod."""
    body = {"status": "ok" if health.live else "event loop blocked", "silent_seconds": round(health.silent_seconds, 1)}
    return 200 if health.live else 503, JSON, orjson.dumps(body)


def ready(health: Health) -> Answer:
    """503 with the reason while the process should get no new traffic."""
    reason = health.unready_reason()
    return (503, JSON, orjson.dumps({"status": "unready", "reason": reason})) if reason else (200, JSON, b'{"status":"ok"}')


def health_report(health: Health) -> Answer:
    """Every dependency; 503 when one is down. For people and dashboards, not for probes."""
    report = health.report()
    return 200 if report["status"] == "ok" else 503, JSON, orjson.dumps(report)


@contextmanager
def serve_ops(server: OpsServer) -> Iterator[OpsServer]:
    """Answers in a thread while the context is open."""
    thread = threading.Thread(target=server.run, name="ops", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
