"""The issuer's public keys, fetched rarely and kept while the issuer is down."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any

import aiohttp
import jwt

from agent_service.errors import IssuerUnavailable, Unauthenticated
from agent_service.logs import logger

FRESH_SECONDS = 300.0
"""Age at which the set is fetched again: how long a key that the issuer withdrew may still be good here."""

RETRY_SECONDS = 10.0
"""Least time between two fetches, so that tokens with made-up key ids cannot turn us against the issuer."""

TIMEOUT = aiohttp.ClientTimeout(total=3.0)
"""A caller waits on this fetch."""

ALGORITHMS = {"RSA": "RS256", "EC P-256": "ES256", "OKP Ed25519": "EdDSA"}
"""Key type and curve -> its only algorithm. No symmetric keys: one that is published is no secret."""

log = logger(__name__)


class Jwks:
    """Finds the issuer's key for a token. One per process; concurrent callers share one fetch."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> jwt.PyJWK:
        """The key named `kid`; without a name, the only key.

        Raises:
            Unauthenticated: the issuer has no such key.
            IssuerUnavailable: no such key is known, and the issuer could not be asked.
        """
        key = self._pick(kid)
        fresh = self._clock() - self._fetched_at < FRESH_SECONDS
        # While one caller asks a slow issuer about an old set, the others go on with it.
        if key is not None and (fresh or self._fetching.locked()):
            return key
        await self._refresh()
        key = self._pick(kid)
        if key is not None:
            return key
        if self._fetched_at < self._tried_at:
            raise IssuerUnavailable("the token issuer's keys cannot be read at the moment", retry_after=int(RETRY_SECONDS))
        raise Unauthenticated("the token was signed with an unknown key")

    def _pick(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == kid), None)

    async def _refresh(self) -> None:
        async with self._fetching:
            if self._clock() - self._tried_at < RETRY_SECONDS:
                return
            self._tried_at = self._clock()
            try:
                self._keys = usable_keys(await self._fetch())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("jwks_fetch_failed", error=repr(error), keys_kept=len(self._keys))
            else:
                self._fetched_at = self._tried_at

    async def _fetch(self) -> object:
        own = nullcontext(self._session) if self._session else aiohttp.ClientSession(trust_env=True)
        async with own as session, session.get(self._url, timeout=TIMEOUT, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise ValueError(f"the JWKS URL answered {response.status}")
            return await response.json(content_type=None)


def usable_keys(document: object) -> list[jwt.PyJWK]:
    """The signing keys of a JWKS document that we can use; ValueError if it has none."""
    entries = document.get("keys") if isinstance(document, dict) else None
    keys = list(_parsed(entries)) if isinstance(entries, list) else []
    if not keys:
        raise ValueError("no RSA, P-256 or Ed25519 signing key at the JWKS URL")
    return keys


def _parsed(entries: Iterable[Any]) -> Iterable[jwt.PyJWK]:
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        algorithm = ALGORITHMS.get(f"{entry.get('kty')} {entry.get('crv', '')}".rstrip())
        if algorithm is None or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
            continue
        try:
            yield jwt.PyJWK(entry, algorithm)
        except jwt.PyJWTError:
            log.warning("jwks_key_skipped", kid=entry.get("kid"))
