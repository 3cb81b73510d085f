"""Every error as problem details (RFC 9457) with a stable `code`: the one place where errors become responses."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent_service.api.json_body import json_bytes
from agent_service.errors import SlipwayError

log = structlog.stdlib.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

HTTP_CODES = {400: "invalid_request", 404: "no_such_route", 405: "method_not_allowed", 413: "too_large", 431: "headers_too_large"}


class Problem(BaseModel):
    """What every error response looks like."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    code: str = Field(description="Stable name of the error, for programs.")
    detail: str = Field(description="One sentence for people; names the field and what was expected.")
    field: str | None = None
    retryable: bool = False


def problem(
    status: int, code: str, detail: str, *, retryable: bool = False, field: str | None = None, **extra: str
) -> dict[str, Any]:
    body = {"type": "about:blank", "title": code.replace("_", " "), "status": status, "code": code, "detail": detail}
    return {**body, "retryable": retryable, **({"field": field} if field else {}), **extra}


def problem_response(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(json_bytes(body), body["status"], headers, media_type=MEDIA_TYPE)


def of_slipway(error: SlipwayError) -> Response:
    headers = {"Retry-After": str(error.retry_after or 1)} if error.status in {429, 503} else {}
    if error.status == 401:  # noqa: PLR2004  # HTTP
        headers["WWW-Authenticate"] = "Bearer"
    body = problem(error.status, error.code, error.detail, retryable=error.retryable, field=error.field, **error.extra)
    return problem_response(body, headers)


def of_validation(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in {"body", "query", "path", "header"}]
    if first["type"] == "json_invalid":
        path, first["msg"] = ["body"], "expected valid JSON in UTF-8, nested less than 1,000 deep"
    field = ".".join(path) or "body"
    return problem_response(problem(422, "invalid_request", f"{field}: {first['msg']}", field=field))


def install(app: FastAPI) -> None:
    async def on_slipway(_: Request, error: Exception) -> Response:
        assert isinstance(error, SlipwayError)  # noqa: S101  # Starlette's handler type is wider
        return of_slipway(error)

    async def on_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # Starlette's handler type is wider
        return of_validation(error)

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # Starlette's handler type is wider
        code = HTTP_CODES.get(error.status_code, "http_error")
        return problem_response(problem(error.status_code, code, str(error.detail)), dict(error.headers or {}))

    async def on_any(_: Request, error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return problem_response(problem(500, "internal", "an unexpected error; it is in the log under the request's id"))

    app.add_exception_handler(SlipwayError, on_slipway)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_any)
