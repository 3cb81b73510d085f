"""The FastAPI application: routers, middleware, error handlers."""

from collections.abc import Iterable, Iterator

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from agent_service.api import (
    a2a,
    chat,
    error_handlers,
    mcp,
    openai,
    openapi,
    page,
    probes,
    protected_resource,
    runbooks,
    runs,
    sessions,
    swagger,
)
from agent_service.api.langgraph import (
    assistant_routes,
    cron_routes,
    protocol_routes,
    run_routes,
    server_routes,
    store_routes,
    thread_routes,
    thread_streams,
)
from agent_service.middleware.after_route import AfterRouteMiddleware
from agent_service.middleware.http_metrics import MetricsMiddleware
from agent_service.middleware.http_tracing import TracingMiddleware
from agent_service.middleware.origin import OriginMiddleware
from agent_service.middleware.request_id import ContextMiddleware
from agent_service.middleware.request_limits import LimitsMiddleware
from agent_service.middleware.unexpected_errors import ErrorMiddleware
from agent_service.resources import VERSION, Resources
from agent_service.setting_types import split_names
from agent_service.settings import Settings

SWITCHED = ((mcp.router, "mcp"), (a2a.router, "a2a"), (a2a.card_router, "a2a"))
"""With the settings that may be `off`."""

ROUTERS = (
    chat.router, runs.router, sessions.router, openai.router,
    assistant_routes.router, thread_routes.router, run_routes.router, protocol_routes.router,

    thread_streams.router, cron_routes.router, store_routes.router,
    *(router for router, _ in SWITCHED),
)  # fmt: skip
"""All that need authentication."""


CORS_REQUEST_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-Id", "traceparent", "tracestate",
    "A2A-Version", "Mcp-Method", "Mcp-Name", "MCP-Protocol-Version", "Mcp-Session-Id",
    "OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch", "X-Stainless-Lang", "X-Stainless-OS",
    "X-Stainless-Package-Version", "X-Stainless-Retry-Count", "X-Stainless-Runtime", "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout", "X-Api-Key", "X-Auth-Scheme",
)  # fmt: skip
"""What our clients send, and those of OpenAI, MCP and A2A in a browser; a page may send no other."""

CORS_ANSWER_HEADERS = (
    "Content-Location", "Location", "Mcp-Session-Id", "Preference-Applied", "RateLimit-Limit", "RateLimit-Policy",
    "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "WWW-Authenticate",
    "X-Pagination-Next", "X-Pagination-Total", "X-Request-Id",
)  # fmt: skip

CORS_MAX_AGE_SECONDS = 600
"""That a browser remembers a permission; Chromium caps it at two hours."""


def _on(settings: Settings) -> list[APIRouter]:
    """Those of ROUTERS that are not switched off."""
    off = [id(router) for router, setting in SWITCHED if getattr(settings, setting) == "off"]
    return [router for router in ROUTERS if id(router) not in off]


def _sign_in() -> APIRouter:
    from agent_service.api import sign_in_routes  # noqa: PLC0415  # cryptography: 0.04 s of CPU, that only sign-in needs

    return sign_in_routes.router


def _declared_answers(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, set[int]]]:
    for route in routes:
        if isinstance(route, APIRoute):
            codes = {route.status_code or 200, *map(int, route.responses)}
            yield from ((method, route.path, codes) for method in route.methods or ())


def _routes(routers: Iterable[APIRouter]) -> list[BaseRoute]:
    return [route for router in routers for route in router.routes]


def create_app(resources: Resources) -> FastAPI:
    """The API over open resources; `with_middleware` is for its callers."""
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
    app.state.logo = page.read_logo(resources.settings)
    settings = resources.settings
    for_callers = _routes(_on(settings))
    for_all = (
        server_routes.router,
        probes.router,
        page.router,
        runbooks.router,
        *([_sign_in()] if settings.oidc_issuer else []),
        *([swagger.router] if settings.api_docs == "on" else []),
        *([protected_resource.router] if protected_resource.issuer(settings) else []),
    )
    routes = [*for_callers, *_routes(for_all)]
    app.router.routes.extend(routes)  # include_router makes each of them anew, in 30 ms of the first request
    error_handlers.install(app, routes)
    served = resources.graphs.by_name.values()
    most_files = resources.settings.max_files if any(each.takes_files for each in served) else 0
    openapi.install(app, [each.name for each in served if each.chats], most_files=most_files)
    resources.metrics.declare_http(_declared_answers(for_callers))
    app.add_middleware(LimitsMiddleware, max_body_bytes=resources.settings.max_body_bytes)
    app.add_middleware(ErrorMiddleware)
    return app


def with_middleware(app: FastAPI, resources: Resources) -> ASGIApp:
    """The application within all that a stream is sent through, the outermost last.

    What FastAPI and Starlette have around their own middleware would be kept by each open stream.
    """
    settings = resources.settings
    around: ASGIApp = ErrorMiddleware(AfterRouteMiddleware(app))
    around = MetricsMiddleware(around, metrics=resources.metrics)
    around = TracingMiddleware(around, tracing=resources.tracing)
    origins = split_names(settings.cors_origins)
    around = OriginMiddleware(
        around,
        anyone=settings.auth == "disabled",
        hosts=frozenset(split_names(settings.allowed_hosts)) | {settings.host},
        origins=frozenset(origins),
    )
    if origins:
        # Around all that answers, errors too: a page sees nothing of an answer without these headers.
        around = CORSMiddleware(
            around,
            allow_origins=origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
            max_age=CORS_MAX_AGE_SECONDS,
        )
    return ContextMiddleware(around)
