"""Problem details (RFC 9457): the one shape of every error response."""

from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    path: str = "",
    field: str | None = None,
    retryable: bool = False,
    headers: dict[str, str] | None = None,
    **extra: str,
) -> Response:
    """An error response. Under /v1 it also carries the `error` object that OpenAI's clients read."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": retryable,
        **({"field": field} if field else {}),
        **extra,
    }
    if path.startswith("/v1"):
        kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004  # HTTP
        body["error"] = {"message": detail, "type": kind, "code": code, "param": field}
    return Response(orjson.dumps(body), status, headers, media_type=MEDIA_TYPE)
