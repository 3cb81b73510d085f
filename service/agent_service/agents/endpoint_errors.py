"""What can go wrong with one attempt at the model endpoint, and how long to wait before the next.

The errors that a graph sees are ours and the OpenAI client's at once: it may catch `openai.RateLimitError`, or langchain-openai's
`ContextOverflowError`, around a model that it built for the stock client; the service maps its own errors to outcomes.
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal, TypeVar

import aiohttp
import httpx2
import openai
import orjson

from agent_service.errors import ModelRejected, ModelUnavailable, SlipwayError

Status = Literal["ok", "rate_limited", "client_error", "server_error", "connection_error", "timeout", "auth"]
"""How an HTTP attempt ended: label values of `agent_llm_requests_total`."""

WITHOUT_RESPONSE = frozenset({"connection_error", "timeout"})
"""Statuses of attempts that brought no response."""

MAX_RETRY_AFTER_SECONDS = 30.0
"""Longest wait that an endpoint may ask for; a turn has 300 s by default."""

BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 8.0
"""First and longest upper bound of a wait drawn at random (full jitter), as OpenAI's own client doubles it."""

RETRY_AFTER_SPREAD = 0.25
"""Of what an endpoint asks for, the most that is added at random: all whom it refused at once must not come back at once."""

CLIENT_RETRY_SECONDS = 5
"""Retry-After towards our client when the endpoint named none: its retries are used up, an outage rarely ends sooner."""

REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Names of errors, such as `context_length_exceeded`; no sentence, no key."""

MAX_ERROR_BYTES = 64 * 2**10
"""Of an error's body that are read; the message stands in the first few hundred."""


class AttemptFailed(Exception):
    """An attempt failed in a way that the next one may not."""

    def __init__(self, status: Status, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after

    def final(self) -> ModelUnavailable:
        """The error once no attempt is left. It has none of the endpoint's text: that may name an organisation."""
        wait = math.ceil(self.retry_after or CLIENT_RETRY_SECONDS)
        error = ModelUnavailable(f"the model endpoint failed: {self}", retry_after=wait)
        if self.status in WITHOUT_RESPONSE:
            return without_status(error, timed_out=self.status == "timeout")
        return with_status(error, HTTPStatus.TOO_MANY_REQUESTS if self.status == "rate_limited" else 500, str(self))


class KeyRefused(Exception):
    """401: another key may do."""

    def final(self) -> ModelUnavailable:
        """The error once no key is left."""
        return with_status(ModelUnavailable("the model endpoint refused the key"), HTTPStatus.UNAUTHORIZED, "the key was refused")


Failure = AttemptFailed | KeyRefused | ModelRejected
"""Every way in which an attempt may end other than well."""


def status_of(error: Failure) -> Status:
    """Under which label the attempt is counted."""
    if isinstance(error, AttemptFailed):
        return error.status
    return "auth" if isinstance(error, KeyRefused) else "client_error"


def failure(code: int, message: str, retry_after: float | None = None, reason: str = "") -> Failure:
    """The failure that an HTTP status stands for, be it the response's or that of an error inside a stream.

    `message` is for the graph alone: endpoints quote keys and questions. Callers and logs are told the `reason`, a name.
    """
    if code == HTTPStatus.UNAUTHORIZED:
        return KeyRefused()
    if code == HTTPStatus.REQUEST_TIMEOUT:
        return AttemptFailed("timeout", "HTTP 408", retry_after)
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return AttemptFailed("rate_limited", "HTTP 429, too many requests", retry_after)
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AttemptFailed("server_error", f"HTTP {code}", retry_after)
    refused = ModelRejected(f"the model endpoint refused the request (HTTP {code}{', ' if reason else ''}{reason})")
    refused.args = (f"{refused.detail}: {message}",)  # langchain looks into it for what is too long
    return with_status(refused, code, message)


def stream_failure(error: object) -> Failure:
    """The failure that an error object inside a stream stands for; without a status code, a server error."""
    code = error.get("code") if isinstance(error, dict) else None
    code = int(code) if isinstance(code, str) and re.fullmatch(r"[45][0-9]{2}", code) else code  # LiteLLM
    if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:
        return failure(code, error_message({"error": error}), reason=error_reason({"error": error}))
    return AttemptFailed("server_error", "it sent an error inside the stream")


def error_message(body: object) -> str:
    """The message of OpenAI's error shape `{"error": {"message": …}}`, or of the variants that others send."""
    error = _error_of(body)
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())


def error_reason(body: object) -> str:
    """The name that OpenAI's error shape has for an error, its `code` or else its `type`; empty unless it looks like a name."""
    error = _error_of(body)
    names = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    return next((name for name in names if isinstance(name, str) and REASON.fullmatch(name)), "")


def _error_of(body: object) -> object:
    """Google sends a list with one error object; vLLM before 0.10, and Ollama, leave out the object around it."""
    if isinstance(body, list) and body:
        body = body[0]
    return body.get("error", body) if isinstance(body, dict) else body


async def read_start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or its first `limit` bytes and then a little more: whoever asks can tell that there was more."""
    body = bytearray()
    while len(body) <= limit and (data := await response.content.readany()):
        body += data
    return bytes(body)


async def response_failure(response: aiohttp.ClientResponse) -> Failure:
    """The failure that a response other than 200 stands for."""
    raw = await read_start(response, MAX_ERROR_BYTES)
    reason = ""
    try:
        body = orjson.loads(raw)
        message, reason = error_message(body), error_reason(body)
    except orjson.JSONDecodeError:
        message = " ".join(raw.decode(errors="replace").split())
    wait = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    return failure(response.status, message, wait, reason)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, at most 30; from seconds or an HTTP date. None for neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):  # TypeError: a date without a zone
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def pause(retry: int, retry_after: float | None, share: float) -> float:
    """Seconds before retry number `retry` (from 0); `share` in [0, 1) is the random part."""
    if retry_after is not None:
        return retry_after * (1 + share * RETRY_AFTER_SPREAD)
    return share * min(BACKOFF_SECONDS * 2.0**retry, MAX_BACKOFF_SECONDS)


TRANSPORT = (aiohttp.ClientError, OSError)
"""What aiohttp raises, TimeoutError too."""


def transport_failure(error: Exception, timeout: float) -> AttemptFailed:
    """The failure that one of TRANSPORT stands for; `timeout` is the silence that aiohttp was told to bear, in seconds."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        failed = AttemptFailed("connection_error", "it could not be reached")
    elif isinstance(error, TimeoutError):
        failed = AttemptFailed("timeout", f"it was silent for {timeout:g} s")
    else:
        failed = AttemptFailed("connection_error", "the connection failed")
    failed.__cause__ = error
    return failed


E = TypeVar("E", bound=SlipwayError)

BY_STATUS: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
"""As the client's own table; every other 4xx is an APIStatusError, every 5xx an InternalServerError."""


def with_status(error: E, status: int, message: str) -> E:
    """The error as the client raises it for an HTTP status."""
    other = openai.InternalServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else openai.APIStatusError
    theirs = BY_STATUS.get(status) or other
    response = httpx2.Response(status, request=_request())
    body = {"message": message}
    attributes = {"status_code": status, "response": response, "request_id": None, "body": body}
    return _both(error, theirs, message=f"Error code: {status} - {message}", **attributes)


def without_status(error: E, *, timed_out: bool) -> E:
    """The error as the client raises it when there is no response."""
    theirs = openai.APITimeoutError if timed_out else openai.APIConnectionError
    return _both(error, theirs, message="Request timed out." if timed_out else "Connection error.", body=None)


def as_raised(stock: openai.APIError) -> Exception:
    """The error that langchain-openai made of one of ours, as ours again; any other stays itself."""
    ours = stock.__cause__
    if not isinstance(ours, SlipwayError):
        return stock
    attributes = {name: value for name, value in vars(stock).items() if name != "code"}
    return _both(ours, type(stock), **attributes)


def _both(error: E, theirs: type[openai.APIError], **attributes: Any) -> E:
    ours = next(kind for kind in type(error).__mro__ if issubclass(kind, SlipwayError) and not issubclass(kind, openai.APIError))
    made: E = _class_of(ours, theirs)(error.detail)
    made.args = error.args
    vars(made).update({"request": _request(), "param": None, "type": None, **attributes, **_own(error)})
    return made


def _own(error: SlipwayError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ("detail", "field", "retry_after", "extra")}


def _class_of(ours: type[SlipwayError], theirs: type[openai.APIError]) -> Any:
    # Neither's __init__: they take different arguments. `code` is ours: the API shows it, theirs stands in the body.
    return type(theirs.__name__, (ours, theirs), {"__init__": Exception.__init__, "code": ours.code})


def _request() -> httpx2.Request:
    return httpx2.Request("POST", "/chat/completions")
