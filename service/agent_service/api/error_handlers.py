"""Every error becomes a response here: problem details (RFC 9457) with a stable `code`."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from agent_service.errors import SlipwayError
from agent_service.middleware.problem_details import problem_response

HTTP_CODES = {400: "invalid_request", 404: "no_such_route", 405: "method_not_allowed", 415: "unsupported_media_type"}

PLACES = frozenset({"body", "query", "path", "header"})


class Problem(BaseModel):
    """What every error response looks like; some have more fields, such as `run_id` with `session_interrupted`."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    code: str = Field(description="Stable name of the error, for programs.")
    detail: str = Field(description="One sentence for people; names the field and what was expected.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    field: str | None = Field(None, description="What is wrong in the request, such as `question` or `decisions.0.type`.")


def headers_of(error: SlipwayError) -> dict[str, str]:
    """`Retry-After` or `WWW-Authenticate`, where its status asks for one."""
    headers = {"Retry-After": str(error.retry_after or 1)} if error.status in {429, 503} else {}
    return headers | ({"WWW-Authenticate": "Bearer"} if error.status == 401 else {})  # noqa: PLR2004  # HTTP


def of_slipway(error: SlipwayError, path: str) -> Response:
    """An error of ours."""
    return problem_response(
        error.status,
        error.code,
        error.detail,
        path=path,
        field=error.field,
        retryable=error.retryable,
        headers=headers_of(error),
        **error.extra,
    )


NOT_SUPPORTED = "is not supported here"
"""Of a field that a form has only to name it: any value but null is refused."""


def first_of(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The first of pydantic's errors: the field's path, and a sentence that begins with it."""
    first = errors[0]
    if first["type"] == "json_invalid":
        field, message = "body", "expected valid JSON in UTF-8, nested less than 1,000 deep"
    else:
        loc = first["loc"]
        field = ".".join(map(str, loc[1:] if loc and loc[0] in PLACES else loc)) or "body"
        message = NOT_SUPPORTED if first["type"] == "none_required" else first["msg"].removeprefix("Value error, ")
    return field, message if message.startswith(f"{field}: ") else f"{field}: {message}"


def of_validation(errors: Sequence[Mapping[str, Any]], path: str) -> Response:
    """What pydantic refused."""
    field, detail = first_of(errors)
    return problem_response(422, "invalid_request", detail, path=path, field=field)


def of_http(error: HTTPException, request: Request, routes: Sequence[BaseRoute]) -> Response:
    """What Starlette raised: no such route, wrong method."""
    headers = dict(error.headers or {})
    if error.status_code == 405:  # noqa: PLR2004  # HTTP
        headers["Allow"] = ", ".join(allowed_methods(routes, request))
    code = HTTP_CODES.get(error.status_code, "http_error")
    return problem_response(error.status_code, code, str(error.detail), path=request.url.path, headers=headers)


def allowed_methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """Methods of every route with the request's path; Starlette names those of the first one only."""
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in getattr(route, "methods", None) or ()})


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Makes problem details of every error of an app with these routes."""

    async def on_slipway(request: Request, error: Exception) -> Response:
        assert isinstance(error, SlipwayError)  # noqa: S101  # Starlette's handler type is wider
        return of_slipway(error, request.url.path)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # Starlette's handler type is wider
        return of_validation(error.errors(), request.url.path)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # Starlette's handler type is wider
        # FastAPI wraps what reading the body raises, such as the limit on its size.
        if isinstance(error.__cause__, SlipwayError):
            return of_slipway(error.__cause__, request.url.path)
        return of_http(error, request, routes)

    app.add_exception_handler(SlipwayError, on_slipway)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
