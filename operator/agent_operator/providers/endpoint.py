"""Does a new key work? One cheap call to the endpoint that it is for."""

from http import HTTPStatus

import httpx

from agent_operator.providers import ProviderError

TIMEOUT = 10.0
"""Seconds; a list of models takes less than one."""


async def check_key(http: httpx.AsyncClient, url: str, value: str) -> None:
    """Raises ProviderError unless the endpoint lets the key in; an endpoint without this route (404) does."""
    try:
        response = await http.get(url, headers={"Authorization": f"Bearer {value}"}, timeout=TIMEOUT, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ProviderError("VerifyFailed", f"GET {url}: {type(error).__name__}") from None
    except UnicodeEncodeError:
        raise ProviderError("NewKeyRefused", "the new key has a character that no HTTP header takes") from None
    status = response.status_code
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise ProviderError("NewKeyRefused", f"GET {url}: HTTP {status} with the new key")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ProviderError("VerifyFailed", f"GET {url}: HTTP {status}")
