"""Keys of a project by OpenAI's Admin API: a service account for each key, or several keys of one service account.

The value of a key is told once, in the answer to the call that makes it. So that call is never repeated here: a key whose
answer was lost is found by its name and deleted.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx

from agent_operator.providers import IssuedKey, NewKey, ProviderError
from slipway_clients.egress.read import ReadError, read
from slipway_clients.egress.text import plain

DEFAULT_BASE_URL = "https://api.openai.com/v1"

TIMEOUT = 20.0
"""Seconds for one whole call; making a service account takes a second or two."""

LIST_SECONDS = 120.0
"""Seconds for all pages of a list together."""

PAGES = 200
"""Pages of one list: 20,000 entries. A provider that always has one more would never be done."""

PAGE = 100
"""Entries of one answer to a list: the most that the API gives."""

ACCOUNT_PREFIX = "svc_acct_"
"""Ids of service accounts begin with it, ids of keys do not: an id alone tells how it is deleted."""


_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class OpenAIAdmin:
    """One project, seen with one admin key. Whoever makes one has judged that the key may be sent to `base_url`."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, admin_key: str, project: str) -> None:
        self._http = http
        self._root = f"{base_url.rstrip('/')}/organization/projects/{_segment(project)}"
        self._headers = {"Authorization": f"Bearer {admin_key}"}

    async def make_account(self, name: str, lifetime: timedelta | None) -> NewKey:
        """A service account and its first key; the id is the account's."""
        answer = await self._call("POST", "/service_accounts", {"name": name} | _expiry(lifetime))
        return _new_key(answer.get("id"), (answer.get("api_key") or {}).get("value"))

    async def make_key(self, account: str, name: str, scopes: list[str], lifetime: timedelta | None) -> NewKey:
        body = {"name": name} | ({"scopes": scopes} if scopes else {}) | _expiry(lifetime)
        answer = await self._call("POST", f"/service_accounts/{_segment(account)}/api_keys", body)
        return _new_key(answer.get("id"), answer.get("value"))

    async def issued(self, prefix: str) -> list[IssuedKey]:
        """Service accounts and keys whose name begins with `prefix`; a key of such an account is told by its account."""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                return await self._issued(prefix)
        except TimeoutError:
            raise ProviderError("ProviderUnavailable", f"no whole list within {LIST_SECONDS:g} s") from None
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ProviderError("UnexpectedAnswer", f"a list of another shape ({type(error).__name__})") from None

    async def _issued(self, prefix: str) -> list[IssuedKey]:
        accounts = [each async for each in self._list("/service_accounts") if each["name"].startswith(prefix)]
        keys = [each async for each in self._list("/api_keys", {"owner_project_access": "any"})]
        used: dict[str, datetime | None] = {}
        own: list[IssuedKey] = []
        for key in keys:
            owner = ((key.get("owner") or {}).get("service_account") or {}).get("id", "")
            used[owner] = max(filter(None, (used.get(owner), _time(key.get("last_used_at")))), default=None)
            if (key.get("name") or "").startswith(prefix) and owner not in {each["id"] for each in accounts}:
                own.append(IssuedKey(key["id"], key["name"], _time(key.get("last_used_at"))))
        return [IssuedKey(each["id"], each["name"], used.get(each["id"])) for each in accounts] + own

    async def delete(self, key_id: str) -> None:
        """A key, or a service account with its keys. One that is gone already is as good as deleted."""
        collection = "service_accounts" if key_id.startswith(ACCOUNT_PREFIX) else "api_keys"
        try:
            await self._call("DELETE", f"/{collection}/{_segment(key_id)}")
        except ProviderError as error:
            if error.reason == "NotFound":
                return
            if error.reason == "Rejected" and "service account" in str(error):
                raise ProviderError(
                    "DeleteRefused", f"{key_id}: {error}; mode ServiceAccountPerRevision can", refused=True
                ) from None
            raise

    async def _list(self, path: str, params: dict[str, str] | None = None) -> AsyncIterator[dict[str, Any]]:
        after: dict[str, str] = {}
        for _ in range(PAGES):
            page = await self._call("GET", path, params={"limit": str(PAGE), **(params or {}), **after})
            for each in page.get("data", []):
                yield each
            if not page.get("has_more") or not page.get("last_id"):
                return
            after = {"after": str(page["last_id"])}
        raise ProviderError("UnexpectedAnswer", f"GET {path}: more than {PAGES} pages")

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            answer = await read(
                self._http, method, self._root + path, seconds=TIMEOUT, headers=self._headers, json=body, params=params
            )
            found = answer.json() if answer.body else {}
        except ReadError as error:
            raise ProviderError("ProviderUnavailable", f"{method} {path}: {error}") from None
        if not answer.is_success:
            raise _error(answer.status, method, path, found)
        return found if isinstance(found, dict) else {}


def _segment(name: object) -> str:
    """Of a URL's path: a project comes from an object, an id from an answer or a status; `..` would lead elsewhere."""
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise ProviderError(
            "InvalidID", f"expected an id of letters, digits, _ and -, got {plain(ascii(name), 80)}", refused=True
        )
    return name


def _expiry(lifetime: timedelta | None) -> dict[str, int]:
    return {"expires_in_seconds": int(lifetime.total_seconds())} if lifetime else {}


def _new_key(key_id: object, value: object) -> NewKey:
    if not (isinstance(key_id, str) and _ID.fullmatch(key_id) and isinstance(value, str) and value):
        raise ProviderError("UnexpectedAnswer", "the answer to making a key holds no key")
    return NewKey(key_id, value)


def _time(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None


def _error(status: int, method: str, path: str, answer: object) -> ProviderError:
    # The API's own text about a 401 quotes a part of the key.
    text = f"{method} {path}: HTTP {status}"
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return ProviderError("AdminKeyRefused", f"{text}: the admin key is wrong, or lacks the right", refused=True)
        case HTTPStatus.NOT_FOUND:
            return ProviderError("NotFound", text, refused=True)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return ProviderError("RateLimited", text)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderError("ProviderUnavailable", text)
    if status < HTTPStatus.BAD_REQUEST:
        return ProviderError("Rejected", f"{text}: a redirect, which a key does not follow", refused=True)
    return ProviderError("Rejected", f"{text}: {_message(answer)}", refused=True)


def _message(answer: object) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    return plain(error.get("message", ""), 200) if isinstance(error, dict) else ""
