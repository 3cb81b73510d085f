"""One decision: who calls?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_service.auth.api_keys import KEY_PREFIX, ApiKeys
from agent_service.auth.stream_tokens import StreamTokens
from agent_service.errors import Unauthenticated
from agent_service.principal import Principal
from agent_service.settings import Settings

if TYPE_CHECKING:
    import aiohttp

    from agent_service.auth.jwt_verifier import JwtVerifier
    from agent_service.auth.sign_in import SignIn

MAX_CREDENTIAL_CHARS = 8192
"""Proxies cut headers at 8 KiB; the largest identity provider tokens stay under 4 KiB."""

LOCAL = Principal("default", "local", "platform")
"""Everyone, with AUTH=disabled."""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Every way to authenticate; `None` for a way that is not set up."""

    settings: Settings
    api_keys: ApiKeys | None
    jwt: "JwtVerifier | None"
    stream_tokens: StreamTokens
    sign_in: "SignIn | None" = None

    async def authenticate(
        self, authorization: str | None, stream_token: str | None, cookies: Mapping[str, str] | None = None
    ) -> Principal:
        """Who calls, by the `Authorization` header or else by the stream token, or else by the cookie of a sign-in.

        Args:
            cookies: of a request that only this service's own page can have made; None for others.

        Raises:
            Unauthenticated: says what is wrong, never quoting the credential.
            IssuerUnavailable: the token's key is not known and the issuer cannot be asked.
        """
        if self.settings.auth == "disabled":
            return LOCAL
        if authorization is not None:
            return await self._bearer(_well_formed(_credential(authorization)))
        if stream_token is not None:
            return self.stream_tokens.verify(_well_formed(stream_token))
        if cookies is not None and self.sign_in is not None:
            return self.sign_in.principal(cookies)
        raise Unauthenticated("send `Authorization: Bearer` with an API key or a token")

    def still_admits(self, tenant: str, user: str, *, by_key: bool | None) -> bool:
        """Whether this user, who is not here now, may still call; None where it is not known how the user came.

        One who came by an API key does while there is a key of that user: after a rotation, too. Of tokens only their issuer
        knows to whom it gives them: who came by one may, while tokens are accepted.
        """
        if self.settings.auth == "disabled":
            return True
        if by_key is not True and (self.jwt or self.sign_in):
            return True
        return bool(self.api_keys and self.api_keys.has_one(tenant, user))

    async def _bearer(self, credential: str) -> Principal:
        if credential.startswith(KEY_PREFIX):
            principal = self.api_keys.authenticate(credential) if self.api_keys else None
            if principal is None:
                raise Unauthenticated("the API key is not known")
            return principal
        if self.jwt is None:
            raise Unauthenticated("the credential is not an API key, and tokens are not accepted here")
        return await self.jwt.authenticate(credential)


def _credential(authorization: str) -> str:
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("the `Authorization` header must use the scheme `Bearer`")
    return credential.strip(" ")


def _well_formed(credential: str) -> str:
    if len(credential) > MAX_CREDENTIAL_CHARS:
        raise Unauthenticated(f"the credential is longer than {MAX_CREDENTIAL_CHARS} characters")
    if not credential or not credential.isascii() or not credential.isprintable() or " " in credential:
        raise Unauthenticated("the credential is malformed")
    return credential


def build_authenticator(settings: Settings, stream_secret: bytes, http: "aiohttp.ClientSession | None" = None) -> Authenticator:
    """Composes what the settings ask for. Without `http`, each fetch of the JWKS opens a session of its own."""
    return Authenticator(
        settings=settings,
        api_keys=ApiKeys(settings.api_keys_dir) if settings.api_keys_dir else None,
        jwt=_jwt_verifier(settings, http),
        stream_tokens=StreamTokens(stream_secret),
        sign_in=_sign_in(settings, stream_secret),
    )


def _sign_in(settings: Settings, secret: bytes) -> "SignIn | None":
    if settings.oidc_issuer is None:
        return None
    from agent_service.auth.sign_in import SignIn  # noqa: PLC0415  # aiohttp and cryptography, as below

    return SignIn(settings, secret)


def _jwt_verifier(settings: Settings, http: "aiohttp.ClientSession | None") -> "JwtVerifier | None":
    if not (settings.jwt_secret or settings.jwt_secret_dir or settings.jwt_jwks_url):
        return None
    from agent_service.auth.jwks import Jwks  # noqa: PLC0415  # aiohttp: 8 MB, 0.1 s of CPU, that only issuers' tokens need
    from agent_service.auth.jwt_verifier import JwtVerifier  # noqa: PLC0415  # likewise
    from agent_service.auth.shared_secrets import SharedSecrets  # noqa: PLC0415  # likewise

    return JwtVerifier(
        secret=settings.jwt_secret.get_secret_value() if settings.jwt_secret else None,
        jwks=Jwks(settings.jwt_jwks_url, http) if settings.jwt_jwks_url else None,
        shared=SharedSecrets(settings.jwt_secret_dir) if settings.jwt_secret_dir else None,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
