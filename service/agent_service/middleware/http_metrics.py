"""Counts requests by route template, never by raw path."""

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.metrics import OTHER, Metrics
from agent_service.middleware.request_id import SENT, Sent

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
        started = time.monotonic()
        sent: Sent = scope[SENT]
        try:
            await self._app(scope, receive, send)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            route = getattr(scope.get("route"), "path", OTHER)
            self._metrics.http_requests.labels(method, route, str(sent.status_or_error())).inc()
            if not sent.streams:
                self._metrics.http_seconds.observe(time.monotonic() - started)
