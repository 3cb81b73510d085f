"""What can go wrong with one attempt at the model endpoint, and how long to wait before the next."""

import contextlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

import aiohttp
import orjson

from agent_service.agents.stock_errors import with_status, without_status
from agent_service.errors import ModelRejected, ModelUnavailable

Status = Literal["ok", "rate_limited", "client_error", "server_error", "connection_error", "timeout", "auth"]
"""How an HTTP attempt ended: label values of `agent_llm_requests_total`."""

WITHOUT_RESPONSE = frozenset({"connection_error", "timeout"})
"""Statuses of attempts that brought no response."""

MAX_RETRY_AFTER_SECONDS = 30.0
"""Longest wait that an endpoint may ask for; a turn has 300 s by default."""

BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 8.0
"""First and longest upper bound of a wait drawn at random (full jitter), as OpenAI's own client doubles it."""

CLIENT_RETRY_SECONDS = 5
"""Retry-After towards our client when the endpoint named none: its retries are used up, an outage rarely ends sooner."""

MESSAGE_CHARS = 200
"""Characters of the endpoint's own message that are passed on."""

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
    if isinstance(error, AttemptFailed):
        return error.status
    return "auth" if isinstance(error, KeyRefused) else "client_error"


def failure(code: int, message: str, retry_after: float | None = None) -> Failure:
    """The failure that an HTTP status stands for, be it the response's or that of an error inside a stream."""
    if code == HTTPStatus.UNAUTHORIZED:
        return KeyRefused()
    if code == HTTPStatus.REQUEST_TIMEOUT:
        return AttemptFailed("timeout", "HTTP 408", retry_after)
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return AttemptFailed("rate_limited", "HTTP 429, too many requests", retry_after)
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AttemptFailed("server_error", f"HTTP {code}", retry_after)
    refused = ModelRejected(f"the model endpoint refused the request (HTTP {code}): {message[:MESSAGE_CHARS]}")
    return with_status(refused, code, message)


def stream_failure(error: Any) -> Failure:
    """The failure that an error object inside a stream stands for; without a status code, a server error."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST:
        return failure(code, error_message({"error": error}))
    return AttemptFailed("server_error", "it sent an error inside the stream")


def error_message(body: Any) -> str:
    """The message of OpenAI's error shape `{"error": {"message": …}}`, or of the variants that others send."""
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())


async def read_start(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or its first `limit` bytes and then a little more: whoever asks can tell that there was more."""
    body = bytearray()
    while len(body) <= limit and (data := await response.content.readany()):
        body += data
    return bytes(body)


async def response_failure(response: aiohttp.ClientResponse) -> Failure:
    """The failure that a response other than 200 stands for."""
    raw = await read_start(response, MAX_ERROR_BYTES)
    try:
        message = error_message(orjson.loads(raw))
    except orjson.JSONDecodeError:
        message = " ".join(raw.decode(errors="replace").split())
    return failure(response.status, message, parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)))


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
        return retry_after
    return share * min(BACKOFF_SECONDS * 2.0**retry, MAX_BACKOFF_SECONDS)


@contextlib.contextmanager
def transport_errors(timeout: float) -> Iterator[None]:
    """Turns aiohttp's errors into AttemptFailed; `timeout` is the silence it was told to bear, in seconds."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise AttemptFailed("connection_error", "it could not be reached") from error
    except TimeoutError as error:
        raise AttemptFailed("timeout", f"it was silent for {timeout:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise AttemptFailed("connection_error", "the connection failed") from error
