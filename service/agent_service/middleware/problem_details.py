"""Problem details (RFC 9457): the one shape of every error response."""

from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"

MAX_DETAIL_CHARS = 1_000
"""Of the sentence for people: it may name what the caller sent, which may have a megabyte."""

MAX_FIELD_CHARS = 200


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
    detail, field = shortened(detail, MAX_DETAIL_CHARS), shortened(field, MAX_FIELD_CHARS) if field else None
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


def shortened(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"
