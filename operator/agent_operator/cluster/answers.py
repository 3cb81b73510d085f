"""What the API server answers, read with bounds: objects are written by whoever may write in a namespace."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2

from agent_operator.cluster.errors import ClusterError, Conflict, Forbidden, Invalid, TooLarge, Unavailable, WrongAnswer
from agent_operator.egress.text import plain

BYTES = 16 << 20
"""Of one answer, and of all objects of a list together: the operator's pod has 256 MiB, and JSON takes a multiple of its text."""

VALUES = 400_000
"""Values in one answer, which Python turns into some 60 bytes each. A page of pods has 30,000."""

MESSAGE = 1000
"""Characters of the API server's words, which may be those of somebody's admission webhook."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    phrase: str
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004  # HTTP's


async def body_of(response: httpx2.Response, call: str) -> bytes:
    """The whole body of the answer to `call`. Raises TooLarge or WrongAnswer."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise WrongAnswer(f"{call}: compressed, which was not asked for")
    parts, size = [], 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > BYTES:
            raise TooLarge(f"{call}: an answer of more than {BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def read_answer(answer: Answer) -> Any:
    """The JSON of a success. Raises ClusterError."""
    if not answer.is_success:
        raise _error(answer)
    return _json(answer.body)


def _json(body: bytes) -> Any:
    if sum(map(body.count, (b",", b"[", b"{"))) > VALUES:
        raise TooLarge(f"an answer of more than {VALUES} values")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongAnswer(f"an answer that is no JSON: {type(error).__name__}") from None


def _error(answer: Answer) -> ClusterError:
    message = _message(answer)
    match answer.status:
        case 401 | 403:
            return Forbidden(message)
        case 409:
            return Conflict(message)
        case 400 | 405 | 413 | 415 | 422:
            return Invalid(message)
        case 404:
            return Invalid(f"{message} (a kind that is not installed, or a namespace that is gone)")
    return Unavailable(message)


def _message(answer: Answer) -> str:
    try:
        return plain(_json(answer.body)["message"], MESSAGE)
    except (ClusterError, KeyError, TypeError):
        return f"{answer.status} {answer.phrase}"
