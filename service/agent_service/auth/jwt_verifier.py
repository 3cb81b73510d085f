"""Bearer JWTs: HS256 with a shared secret, or RS256, ES256 and EdDSA with the issuer's published keys."""

from dataclasses import dataclass
from typing import Any

import jwt

from agent_service.auth.claims import identify, reason, verified_claims
from agent_service.auth.jwks import Jwks
from agent_service.auth.shared_secrets import SharedSecrets
from agent_service.auth.stream_tokens import AUDIENCE as STREAM_AUDIENCE
from agent_service.errors import Unauthenticated
from agent_service.principal import Principal


@dataclass(frozen=True, slots=True)
class JwtVerifier:
    """Turns a bearer JWT into its principal. `issuer` and `audience` are required of a token when set."""

    secret: str | None = None
    jwks: Jwks | None = None
    shared: SharedSecrets | None = None
    """Instead of `secret`: one that rotates."""

    issuer: str | None = None
    audience: str | None = None

    async def authenticate(self, token: str) -> Principal:
        """Raises Unauthenticated, or IssuerUnavailable when the issuer's keys cannot be had."""
        key, algorithm = await self._key(_key_id(token), token)
        claims = verified_claims(token, key, algorithm, issuer=self.issuer, audience=self.audience)
        audience = claims.get("aud")
        if STREAM_AUDIENCE in (audience if isinstance(audience, list) else [audience]):
            raise Unauthenticated("a stream token only opens streams")
        return identify(claims).principal()

    async def _key(self, kid: str | None, token: str) -> tuple[Any, str]:
        # With both a secret and a JWKS, a token that names its key means the JWKS. Either way the key fixes the algorithm.
        secret = self.shared.signer_of(token) if self.shared else self.secret
        if self.jwks is not None and (kid is not None or secret is None):
            found = await self.jwks.find(kid)
            return found.key, found.algorithm_name
        if secret is not None:
            return secret, "HS256"
        raise Unauthenticated("the credential is not an API key, and tokens are not accepted here")


def _key_id(token: str) -> str | None:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError as error:
        raise Unauthenticated(reason(error)) from None
    return kid if isinstance(kid, str) else None
