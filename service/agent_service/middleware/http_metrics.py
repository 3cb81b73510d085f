"""Counts requests by route template, never by raw path."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.metrics import OTHER, Metrics

METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
PROBES = frozenset({"/live", "/ready", "/health"})


class MetricsMiddleware:
    """Counts answers by route template and status. Streams are not timed: they last as long as a run."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        started, status, is_stream = time.monotonic(), 500, False

        async def watching(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                is_stream = any(k == b"content-type" and v.startswith(b"text/event-stream") for k, v in message["headers"])
            await send(message)

        try:
            await self._app(scope, receive, watching)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            route = getattr(scope.get("route"), "path", OTHER)
            self._metrics.http_requests.labels(method, route, str(status)).inc()
            if not is_stream:
                self._metrics.http_seconds.observe(time.monotonic() - started)
