"""The FastAPI application: routers, middleware, error handlers."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from agent_service.api import chat, error_handlers, openai, openapi, page, probes, runs, sessions
from agent_service.api.langgraph import assistant_routes, run_routes, server_routes, thread_routes
from agent_service.middleware.http_metrics import MetricsMiddleware
from agent_service.middleware.http_tracing import TracingMiddleware
from agent_service.middleware.origin import OriginMiddleware
from agent_service.middleware.request_id import ContextMiddleware
from agent_service.middleware.request_limits import LimitsMiddleware
from agent_service.middleware.unexpected_errors import ErrorMiddleware
from agent_service.resources import VERSION, Resources
from agent_service.setting_types import split_names

ROUTERS = (
    chat.router, runs.router, sessions.router, openai.router,
    assistant_routes.router, thread_routes.router, run_routes.router,
)  # fmt: skip
"""All that need authentication."""


CORS_REQUEST_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-Id", "traceparent", "tracestate",
    "OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch", "X-Stainless-Lang", "X-Stainless-OS",
    "X-Stainless-Package-Version", "X-Stainless-Retry-Count", "X-Stainless-Runtime", "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout", "X-Api-Key", "X-Auth-Scheme",
)  # fmt: skip
"""What our clients send, and OpenAI's in a browser; a page may send no other."""

CORS_ANSWER_HEADERS = (
    "Content-Location", "Location", "Preference-Applied", "Retry-After", "WWW-Authenticate", "X-Pagination-Next",
    "X-Pagination-Total", "X-Request-Id",
)  # fmt: skip

CORS_MAX_AGE_SECONDS = 600
"""That a browser remembers a permission; Chromium caps it at two hours."""


def _declared_answers() -> Iterator[tuple[str, str, set[int]]]:
    for route in (route for router in ROUTERS for route in router.routes):
        if isinstance(route, APIRoute):
            codes = {route.status_code or 200, *map(int, route.responses)}
            yield from ((method, route.path, codes) for method in route.methods or ())


def create_app(resources: Resources) -> FastAPI:
    """The API over open resources. Middleware runs from the last added to the first."""
    app = FastAPI(
        title="Slipway",
        version=VERSION,
        description="LangGraph agents over HTTP and SSE.",
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # its spans hold the query, and so the question
        redirect_slashes=False,  # the redirect would name the host that the request claims
    )
    app.state.resources = resources
    settings = resources.settings
    routes = [route for router in (*ROUTERS, server_routes.router, probes.router, page.router) for route in router.routes]
    app.router.routes.extend(routes)  # include_router makes each of them anew, in 30 ms of the first request
    error_handlers.install(app, routes)
    openapi.install(app)
    resources.metrics.declare_http(_declared_answers())
    app.add_middleware(LimitsMiddleware, max_body_bytes=resources.settings.max_body_bytes)
    app.add_middleware(ErrorMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=resources.metrics)
    app.add_middleware(TracingMiddleware, tracing=resources.tracing)
    origins = split_names(settings.cors_origins)
    app.add_middleware(
        OriginMiddleware,
        anyone=settings.auth == "disabled",
        hosts=frozenset(split_names(settings.allowed_hosts)) | {settings.host},
        origins=frozenset(origins),
    )
    if origins:
        # Around all that answers, errors too: a page sees nothing of an answer without these headers.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
            max_age=CORS_MAX_AGE_SECONDS,
        )
    app.add_middleware(ContextMiddleware)
    return app
