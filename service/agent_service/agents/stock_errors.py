"""Errors that are ours and the OpenAI client's at once.

A graph may catch `openai.RateLimitError`, or langchain-openai's `ContextOverflowError`, around a model that it built for the
stock client; the service maps its own errors to outcomes. One exception serves both.
"""

from http import HTTPStatus
from typing import Any, TypeVar

import httpx2
import openai

from agent_service.errors import SlipwayError

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
    vars(made).update({"request": _request(), "param": None, "type": None, **attributes, **_own(error)})
    return made


def _own(error: SlipwayError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in ("detail", "field", "retry_after", "extra")}


def _class_of(ours: type[SlipwayError], theirs: type[openai.APIError]) -> Any:
    # Neither's __init__: they take different arguments. `code` is ours: the API shows it, theirs stands in the body.
    return type(theirs.__name__, (ours, theirs), {"__init__": Exception.__init__, "code": ours.code})


def _request() -> httpx2.Request:
    return httpx2.Request("POST", "/chat/completions")
