"""A span for each request, and its trace id on every log line of it."""

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.metrics import OTHER
from agent_service.middleware.http_metrics import METHODS, PROBES
from agent_service.middleware.request_id import SENT, Sent
from agent_service.tracing.spans import Tracing, answered, trace_id

PARENT = frozenset({b"traceparent", b"tracestate"})
"""W3C's headers, which continue a caller's trace."""


class TracingMiddleware:
    """Continues a caller's `traceparent`, and ends the span with the status of the answer."""

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else OTHER
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PARENT}
        sent: Sent = scope[SENT]
        span = self._tracing.request(method, headers)
        structlog.contextvars.bind_contextvars(trace_id=trace_id(span))
        try:
            await self._app(scope, receive, send)
        finally:
            answered(span, method, getattr(scope.get("route"), "path", OTHER), sent.status_or_error())
            span.end()
