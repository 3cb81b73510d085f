"""Short-lived tokens for `EventSource`, which cannot set headers: they travel as `?token=` and only open streams."""

import time
from collections.abc import Callable

import jwt

from agent_service.auth.claims import identify, verified_claims
from agent_service.errors import Forbidden
from agent_service.principal import Principal

AUDIENCE = "slipway-stream"

ALGORITHM = "HS256"

LIFETIME_SECONDS = 60
"""Addresses end up in proxy logs, so the token must be worthless by then; a page asks for one before each connection."""


class StreamTokens:
    """Signs with the installation's secret, so that one made by any replica is good at every other."""

    def __init__(self, secret: bytes, lifetime: int = LIFETIME_SECONDS, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._lifetime = lifetime
        self._clock = clock

    def issue(self, principal: Principal) -> tuple[str, int]:
        """A token and the seconds it lives.

        Raises:
            Forbidden: the principal came by a stream token itself; else a leaked one could be renewed for ever.
        """
        if principal.stream_only:
            raise Forbidden("a stream token cannot be used to get another one")
        now = int(self._clock())
        claims = {
            "aud": AUDIENCE,
            "sub": principal.user,
            "tenant": principal.tenant,
            "role": principal.role,
            "iat": now,
            "exp": now + self._lifetime,
        }
        return jwt.encode(claims, self._secret, ALGORITHM), self._lifetime

    def verify(self, token: str) -> Principal:
        """The token's principal, `stream_only`; raises Unauthenticated."""
        claims = verified_claims(token, self._secret, ALGORITHM, audience=AUDIENCE)
        return identify(claims).principal(stream_only=True)
