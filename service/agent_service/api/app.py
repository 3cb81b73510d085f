"""The FastAPI application: routers, middleware, error handlers."""

from fastapi import FastAPI

from agent_service.api import chat, openai, probes, runs, sessions
from agent_service.api.problems import Problem, install
from agent_service.middleware.context import ContextMiddleware
from agent_service.middleware.limits import LimitsMiddleware
from agent_service.middleware.metrics import MetricsMiddleware
from agent_service.resources import VERSION, Resources

PROBLEMS = (401, 403, 404, 405, 409, 413, 422, 431, 500, 502, 503)


def create_app(resources: Resources) -> FastAPI:
    """The API over open resources. Middleware runs from the last added to the first."""
    app = FastAPI(
        title="Slipway",
        version=VERSION,
        description="LangGraph agents over HTTP and SSE.",
        responses={status: {"model": Problem, "description": "Problem details"} for status in PROBLEMS},
        docs_url=None,
        redoc_url=None,
    )
    app.state.resources = resources
    for module in (chat, runs, sessions, openai, probes):
        app.include_router(module.router)
    install(app)
    app.add_middleware(LimitsMiddleware, max_body_bytes=resources.settings.max_body_bytes)
    app.add_middleware(MetricsMiddleware, metrics=resources.metrics)
    app.add_middleware(ContextMiddleware)
    return app
