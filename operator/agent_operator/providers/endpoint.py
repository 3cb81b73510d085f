"""Does a new key work? One cheap call to the endpoint that it is for."""

from http import HTTPStatus

import httpx

from agent_operator.providers import ProviderError
from slipway_clients.egress.read import ReadError, read

TIMEOUT = 10.0
"""Seconds for the whole answer; a list of models takes less than one."""


async def check_key(http: httpx.AsyncClient, url: str, value: str) -> None:
    """Raises ProviderError unless the endpoint lets the key in; an endpoint without this route (404) does."""
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ProviderError("NewKeyRefused", "the new key has a character that no HTTP header takes")
    try:
        answer = await read(http, "GET", url, seconds=TIMEOUT, headers={"Authorization": f"Bearer {value}"})
    except ReadError as error:
        raise ProviderError("VerifyFailed", f"GET {url}: {error}") from None
    status = answer.status
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ProviderError("NewKeyRefused", f"GET {url}: HTTP {status} with the new key")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise ProviderError("VerifyFailed", f"GET {url}: HTTP {status}, a redirect, which a key does not follow", refused=True)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ProviderError("VerifyFailed", f"GET {url}: HTTP {status}")
