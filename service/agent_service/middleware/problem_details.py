"""Error responses: problem details, bounded."""

import orjson
from starlette.responses import Response

from agent_service.server.refusals import problem_body

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
    body = problem_body(status, code, detail, of_openai=path.startswith("/v1"), field=field, retryable=retryable, **extra)
    return Response(orjson.dumps(body), status, headers, media_type=MEDIA_TYPE)


def shortened(text: str, chars: int) -> str:
    """At most so many characters, the last one `…` if some are left out."""
    return text if len(text) <= chars else f"{text[: chars - 1]}…"
