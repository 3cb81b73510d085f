"""From verified claims to a principal, and from a JWT to verified claims."""

from collections.abc import Mapping
from typing import Any

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError

from agent_service.errors import Unauthenticated
from agent_service.principal import Name, Principal, Role, StreamGrant

LEEWAY_SECONDS = 10
"""Clock skew between the issuer and this pod; NTP keeps nodes far closer."""

REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "the token has expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token comes from another issuer"),
    (jwt.InvalidAlgorithmError, "the token's algorithm is not accepted"),
    (jwt.InvalidSignatureError, "the token's signature does not match"),
    (jwt.InvalidTokenError, "the token is malformed"),
)
"""What the caller is told, most specific first. Never the library's own text, which may quote the token."""


class Identity(BaseModel):
    """The claims that say who calls; other claims are the issuer's business."""

    model_config = ConfigDict(strict=True, frozen=True)

    sub: Name
    tenant: Name = "default"
    role: Role = "user"

    def principal(self, grant: StreamGrant | None = None) -> Principal:
        """Who that is; with the grant of a stream token, if it came by one."""
        return Principal(self.tenant, self.sub, self.role, grant)


def identify(claims: Mapping[str, Any]) -> Identity:
    """Raises Unauthenticated that names the claim which is missing or not acceptable."""
    try:
        return Identity.model_validate(dict(claims))
    except ValidationError as error:
        claim = error.errors(include_url=False, include_input=False)[0]["loc"][0]
        raise Unauthenticated(f"the token's claim `{claim}` is missing or not acceptable") from None


def verified_claims(
    token: str, key: Any, algorithm: str, *, issuer: str | None = None, audience: str | None = None
) -> dict[str, Any]:
    """The claims of a JWT signed with `key`, which is bound to one algorithm: the token has no say in it.

    Raises:
        Unauthenticated: says what is wrong without quoting the token.
    """
    required = ["exp", "sub", *(["iss"] if issuer else []), *(["aud"] if audience else [])]
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={
                "require": required,
                "verify_iss": issuer is not None,
                "verify_aud": audience is not None,
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.MissingRequiredClaimError as error:
        raise Unauthenticated(f"the token lacks the claim `{error.claim}`") from None
    except (jwt.PyJWTError, ValueError, OverflowError) as error:
        raise Unauthenticated(reason(error)) from None


def reason(error: Exception) -> str:
    """What the caller is told of PyJWT's error."""
    return next((text for kind, text in REASONS if isinstance(error, kind)), "the token is malformed")
