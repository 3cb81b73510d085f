"""The ops port: probes, metrics and status, served by a thread of its own.

A blocked event loop still answers here, so that the kubelet does not kill a pod that is only busy.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from agent_service.health import Health

log = structlog.stdlib.get_logger(__name__)

JSON = "application/json"

Answer = tuple[int, str, bytes]


class OpsServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], health: Health, registry: CollectorRegistry) -> None:
        self.health = health
        self.registry = registry
        self.status: Callable[[], dict[str, Any]] = dict
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base class's signature
        """A prober that hung up; the base class prints a traceback."""
        log.debug("ops connection broke")

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def answer(self, path: str, accept: str) -> Answer:
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
        return 404, JSON, b'{"code":"not_found","detail":"the ops port has /live /ready /health /metrics /status"}'


def live(health: Health) -> Answer:
    body = {"status": "ok" if health.live else "event loop blocked", "silent_seconds": round(health.silent_seconds, 1)}
    return 200 if health.live else 503, JSON, orjson.dumps(body)


def ready(health: Health) -> Answer:
    reason = health.unready_reason()
    return (503, JSON, orjson.dumps({"status": "unready", "reason": reason})) if reason else (200, JSON, b'{"status":"ok"}')


def health_report(health: Health) -> Answer:
    report = health.report()
    return 200 if report["status"] == "ok" else 503, JSON, orjson.dumps(report)


class _Handler(BaseHTTPRequestHandler):
    server: OpsServer
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        try:
            status, content_type, body = self.server.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        except Exception:
            log.exception("the ops port failed", path=self.path)
            status, content_type, body = 500, JSON, b'{"code":"internal","detail":"it is in the log"}'
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Nothing: a probe every few seconds is no news."""


@contextmanager
def serve_ops(server: OpsServer) -> Iterator[OpsServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="ops", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
