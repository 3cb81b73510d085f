"""The OpenAPI document: which errors a route can answer, in their own media type."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from agent_service.api.error_handlers import Problem
from agent_service.api.field_types import OF_A_GRAPH, OF_FILES
from agent_service.middleware.problem_details import MEDIA_TYPE

ERRORS = {
    401: "No credential, or one that is not good (any more).",
    403: "The stream token is for the stream of another run.",
    404: "No such thing, or it is another principal's.",
    409: "The state of the session or run forbids it: `session_busy`, `session_interrupted`, `not_interrupted`.",
    413: "The body is larger than MAX_BODY_BYTES.",
    415: "The body is not declared as JSON.",
    422: "Something in the request is wrong; `field` names it.",
    429: "A limit of the caller; `Retry-After` tells when to come back.",
    431: "The headers are too large.",
    500: "An unexpected error.",
    503: "The process or the database cannot take it now; `Retry-After` tells when to come back.",
}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
    }
    for status, description in ERRORS.items()
}


def event_stream(description: str) -> dict[str, Any]:
    """Content of a response that is a stream, event by event (OpenAPI 3.2's `itemSchema`)."""
    event = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "event": {"type": "string"},
            "data": {"type": "string", "description": description},
        },
        "required": ["data"],
    }
    return {"text/event-stream": {"itemSchema": event}}


def install(app: FastAPI, graphs: list[str], *, most_files: int) -> None:
    """Makes the document whole: FastAPI would list the problem under the media type of each route's own answer.

    Args:
        graphs: that take questions, which is known when the process has loaded them.
        most_files: of a question; 0 where no graph takes any.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            whole.setdefault("components", {}).setdefault("schemas", {})[Problem.__name__] = Problem.model_json_schema()
            _fill_in(whole, {OF_A_GRAPH: ("enum", graphs), OF_FILES: ("maxItems", most_files)})
            app.openapi_schema = whole
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _fill_in(schema: object, known: Mapping[str, tuple[str, object]]) -> None:
    """Puts in the place of each mark the keyword with what this process knows."""
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _fill_in(value, known)
    if isinstance(schema, dict):
        for mark, (keyword, value) in known.items():
            if schema.pop(mark, False):
                schema[keyword] = value
