"""Short-lived tokens for `EventSource`, which cannot set headers: they travel as `?token=`, each for one run's stream."""

import time
from collections.abc import Callable
from uuid import UUID, uuid4

from agent_service.errors import Forbidden, Unauthenticated
from agent_service.principal import Principal, StreamGrant

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

    def issue(self, principal: Principal, run_id: UUID | None = None) -> tuple[str, int]:
        """A token and the seconds it lives: for the stream of this run of the principal; without, to start one.

        A token that starts a run carries that run's id. So it starts none but that, whatever is tried and wherever.

        Raises:
            Forbidden: the principal came by a stream token itself; else a leaked one could be renewed for ever.
        """
        if principal.grant:
            raise Forbidden("a stream token cannot be used to get another one")
        import jwt  # noqa: PLC0415  # it brings cryptography, 8 MB and 0.04 s of CPU, which clients with headers do not need

        now = int(self._clock())
        claims = {
            "aud": AUDIENCE,
            "sub": principal.user,
            "tenant": principal.tenant,
            "role": principal.role,
            "run": str(run_id or uuid4()),
            "starts": run_id is None,
            "iat": now,
            "exp": now + self._lifetime,
        }
        return jwt.encode(claims, self._secret, ALGORITHM), self._lifetime

    def verify(self, token: str) -> Principal:
        """The token's principal with its grant; raises Unauthenticated."""
        from agent_service.auth.claims import identify, verified_claims  # noqa: PLC0415  # jwt, as above

        claims = verified_claims(token, self._secret, ALGORITHM, audience=AUDIENCE)
        try:
            grant = StreamGrant(UUID(claims["run"]), claims["starts"] is True)
        except KeyError:  # made by a replica of an older version
            raise Unauthenticated("the stream token is for no run; get another one") from None
        return identify(claims).principal(grant)
