"""The FastAPI application: routers, middleware, error handlers."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute

from agent_service.api import chat, openai, openapi, page, probes, problems, runs, sessions
from agent_service.middleware.context import ContextMiddleware
from agent_service.middleware.errors import ErrorMiddleware
from agent_service.middleware.limits import LimitsMiddleware
from agent_service.middleware.metrics import MetricsMiddleware
from agent_service.middleware.tracing import TracingMiddleware
from agent_service.resources import VERSION, Resources

ROUTERS = (chat.router, runs.router, sessions.router, openai.router)
"""All that need authentication."""


def _declared_answers() -> Iterator[tuple[str, str, set[int]]]:
    for route in (route for router in ROUTERS for route in router.routes):
        if isinstance(route, APIRoute):
            codes = {route.status_code or 200, *(int(code) for code in (*route.responses, *openapi.PROBLEMS))}
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
    for router in ROUTERS:
        app.include_router(router, responses=openapi.PROBLEMS)
    app.include_router(probes.router)
    app.include_router(page.router)
    problems.install(app, [route for router in (*ROUTERS, probes.router, page.router) for route in router.routes])
    openapi.install(app)
    resources.metrics.declare_http(_declared_answers())
    app.add_middleware(LimitsMiddleware, max_body_bytes=resources.settings.max_body_bytes)
    app.add_middleware(ErrorMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=resources.metrics)
    app.add_middleware(TracingMiddleware, tracing=resources.tracing)
    app.add_middleware(ContextMiddleware)
    return app
