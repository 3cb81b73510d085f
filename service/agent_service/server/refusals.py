"""What a connection is told before any application sees it: problem details, as everywhere else."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from uuid import uuid4

import orjson
from pydantic import JsonValue

from agent_service.server.limits import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED, MAX_URL_BYTES

CUT_REASONS = ("malformed", "head", "slow", "body", "connections", "memory", "unread")
"""Why connections were cut, as a label of agent_connections_cut_total."""

SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"frame-ancestors 'none'",
}
"""Of an answer that does not say otherwise, as the chat page does: a browser guesses no type, and frames nothing."""

PRIVATE = {b"cache-control": b"no-store"}
"""Of JSON: it is one caller's own."""

SAFE_LINES: Final = tuple(f"{name.decode()}: {value.decode()}" for name, value in (SAFE | PRIVATE).items())


def problem_body(
    status: int, code: str, detail: str, *, of_openai: bool, field: str | None = None, retryable: bool = False, **extra: str
) -> dict[str, JsonValue]:
    """Problem details (RFC 9457), the one shape of every error. `of_openai` adds the `error` object that OpenAI clients read."""
    body: dict[str, JsonValue] = {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": retryable,
        **({"field": field} if field else {}),
        **extra,
    }
    if of_openai:
        kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        body["error"] = {"message": detail, "type": kind, "code": code, "param": field}
    return body


@dataclass(frozen=True, slots=True)
class Refusal:
    """`reason` is one of CUT_REASONS; `silent`: the connection is closed without a word."""

    status: int
    code: str
    field: str | None
    expected: str
    reason: str
    silent: bool = False

    def encode(self, path: bytes) -> bytes:
        """The whole response. Under /v1 it also carries the `error` object that OpenAI's clients read."""
        detail = f"{self.field}: {self.expected}" if self.field else self.expected
        retryable = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        problem = problem_body(
            self.status, self.code, detail, of_openai=path.startswith(b"/v1"), field=self.field, retryable=retryable
        )
        body = orjson.dumps(problem)
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "content-type: application/problem+json",
            f"content-length: {len(body)}",
            f"x-request-id: {uuid4().hex}",
            *SAFE_LINES,
            *(["retry-after: 1"] if retryable else []),
            "connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


MALFORMED: Final = Refusal(400, "invalid_request", "request", "expected HTTP/1.1", "malformed")
TOO_MANY_REQUESTS: Final = Refusal(
    400, "invalid_request", "request", f"expected at most {MAX_PIPELINED} before an answer", "malformed"
)
URL_TOO_LONG: Final = Refusal(414, "uri_too_long", "url", f"expected at most {MAX_URL_BYTES} bytes", "head")
HEAD_TOO_LARGE: Final = Refusal(431, "headers_too_large", "headers", f"expected at most {MAX_HEAD_BYTES} bytes", "head")
TOO_MANY_HEADERS: Final = Refusal(431, "headers_too_large", "headers", f"expected at most {MAX_HEADERS} fields", "head")
SLOW_HEAD: Final = Refusal(408, "request_timeout", None, "the head of the request did not come in time", "slow")
SILENT: Final = Refusal(408, "request_timeout", None, "no request came", "slow", silent=True)
SLOW_BODY: Final = Refusal(408, "request_timeout", "body", "too few bytes came in time", "slow")
WASTEFUL_BODY: Final = Refusal(413, "too_large", "body", "expected fewer bytes, or fewer of chunk headers and trailers", "body")
UNUSED_BODY: Final = Refusal(413, "too_large", "body", "it goes on after its answer", "body", silent=True)
TOO_MANY_CONNECTIONS: Final = Refusal(503, "overloaded", None, "too many connections are open", "connections")
OUT_OF_MEMORY: Final = Refusal(503, "overloaded", None, "too many requests are arriving at once", "memory")
