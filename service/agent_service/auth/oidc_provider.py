"""The OpenID provider, as its client sees it: what it says of itself, its token endpoint, its ID tokens.

Nothing that it answers is quoted to callers or logged, besides the short name of an error.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import jwt
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent_service.auth.claims import reason, verified_claims
from agent_service.errors import IssuerUnavailable, Unauthenticated
from agent_service.logs import logger
from agent_service.setting_types import is_local_url
from agent_service.settings import Settings

if TYPE_CHECKING:
    import aiohttp

    from agent_service.auth.jwks import Jwks

FRESH_SECONDS = 3600.0
"""Age at which the provider's metadata are read again; the old ones serve while it is away."""

RETRY_SECONDS = 5
"""Least time between two attempts to read them, so that those who wait for a provider that hangs wait for it once."""

TIMEOUT_SECONDS = 5.0
"""A person waits for it."""

MAX_ANSWER_BYTES = 262_144
"""Of an answer of the provider: Entra's with many groups has 20 kB."""

ERROR_NAME = re.compile(r"[a-z_]{1,64}")
"""As RFC 6749 has them; other text may be anything, and is not logged."""

ASKS_THE_PERSON = {"invalid_grant", "interaction_required", "login_required", "consent_required", "account_selection_required"}
"""Errors of the token endpoint after which only a new sign-in helps: of RFC 6749 5.2, and of OIDC Core 3.1.2.6."""

AWAY = "the sign-in provider does not answer as it should at the moment"
GONE = "the sign-in has ended at the provider"

log = logger(__name__)


class ProviderMetadata(BaseModel):
    """Of OpenID Connect Discovery 1.0, what this client uses."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class TokenAnswer(BaseModel):
    """Of the token endpoint. The access token is not used, so it is not kept."""

    model_config = ConfigDict(frozen=True)

    id_token: str | None = Field(None, repr=False)
    refresh_token: str | None = Field(None, repr=False)


class OidcProvider:
    """One per process. Raises IssuerUnavailable where the provider does not answer, or not as the standard says."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = str(settings.oidc_issuer)
        self._client_id = str(settings.oidc_client_id)
        secret = settings.oidc_client_secret
        self._secret = secret.get_secret_value() if secret else None
        self.clock = clock
        self._metadata: ProviderMetadata | None = None
        self._jwks: Jwks | None = None
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()

    async def metadata(self) -> ProviderMetadata:
        """What the provider says of itself, checked to be of the issuer that was asked."""
        if self._metadata is not None and (self._reading.locked() or not self._is_due()):
            return self._metadata
        async with self._reading:
            if self._is_due():
                await self._refresh_metadata()
            if self._metadata is None:
                raise IssuerUnavailable(AWAY, retry_after=RETRY_SECONDS)
            return self._metadata

    def _is_due(self) -> bool:
        now = self.clock()
        return now - self._read_at >= FRESH_SECONDS and now - self._tried_at >= RETRY_SECONDS

    async def _refresh_metadata(self) -> None:
        try:
            found = await self._read_metadata()
        except IssuerUnavailable:  # logged where it was raised
            return
        finally:
            self._tried_at = self.clock()  # from the end: a provider that hangs takes as long as the pause
        from agent_service.auth.jwks import Jwks  # noqa: PLC0415  # aiohttp, which who signs nobody in does without

        if self._metadata is None or found.jwks_uri != self._metadata.jwks_uri:
            self._jwks = Jwks(found.jwks_uri)
        self._metadata, self._read_at = found, self._tried_at

    async def _read_metadata(self) -> ProviderMetadata:
        status, body = await self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            found = ProviderMetadata.model_validate(body)
        except ValidationError as error:
            fields = [".".join(map(str, each["loc"])) for each in error.errors(include_input=False)]
            raise _unavailable("metadata", status=status, fields=fields) from None
        if found.issuer != self._issuer:  # OIDC Discovery 4.3: else one provider could speak for another
            raise _unavailable("metadata_of_another_issuer")
        addresses = (found.authorization_endpoint, found.token_endpoint, found.jwks_uri)
        optional = (url for url in (found.end_session_endpoint, found.revocation_endpoint) if url)
        if not all(_is_safe(url, self._issuer) for url in (*addresses, *optional)):
            raise _unavailable("endpoint_without_tls")
        return found

    async def redeem(self, code: str, verifier: str, redirect_uri: str) -> TokenAnswer:
        """The tokens for a code. Raises Unauthenticated if the provider refuses it."""
        return await self._token(
            {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": redirect_uri}
        )

    async def refresh(self, refresh_token: str) -> TokenAnswer:
        """New tokens. Raises Unauthenticated if the provider has ended the session."""
        return await self._token({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def revoke(self, refresh_token: str) -> None:
        """As far as the provider can and is there: who signs out is not kept waiting for it by an error (RFC 7009)."""
        with suppress(IssuerUnavailable):  # logged where it was raised
            if url := (await self.metadata()).revocation_endpoint:
                status, _ = await self._post(url, {"token": refresh_token, "token_type_hint": "refresh_token"})
                if status != HTTPStatus.OK:
                    log.warning("sign_in_not_revoked", status=status)

    async def claims(self, id_token: str) -> dict[str, Any]:
        """The claims of an ID token of this provider for this client (OIDC Core 3.1.3.7). Raises Unauthenticated."""
        await self.metadata()
        assert self._jwks is not None  # noqa: S101  # set with the metadata
        try:
            kid = jwt.get_unverified_header(id_token).get("kid")
        except jwt.PyJWTError as error:
            raise Unauthenticated(reason(error)) from None
        key = await self._jwks.find(kid if isinstance(kid, str) else None)
        claims = verified_claims(id_token, key.key, key.algorithm_name, issuer=self._issuer, audience=self._client_id)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._client_id) != self._client_id:
            raise Unauthenticated("the token was made for another client")
        return claims

    async def _token(self, form: Mapping[str, str]) -> TokenAnswer:
        status, body = await self._post((await self.metadata()).token_endpoint, form)
        if status == HTTPStatus.OK:
            try:
                return TokenAnswer.model_validate(body)
            except ValidationError:
                raise _unavailable("token_answer", status=status) from None
        error = _error_name(body)
        if error in ASKS_THE_PERSON:
            raise Unauthenticated(GONE)
        raise _unavailable("token", status=status, error=error)

    async def _post(self, url: str, form: Mapping[str, str]) -> tuple[int, object]:
        import aiohttp  # noqa: PLC0415  # likewise

        methods = (await self.metadata()).token_endpoint_auth_methods_supported
        headers, fields = {}, dict(form)
        if self._secret and ("client_secret_basic" in methods or "client_secret_post" not in methods):
            # RFC 6749 2.3.1: each part is form-encoded first.
            user, password = quote(self._client_id, safe=""), quote(self._secret, safe="")
            headers["Authorization"] = aiohttp.encode_basic_auth(user, password)
        else:
            fields |= {"client_id": self._client_id, **({"client_secret": self._secret} if self._secret else {})}
        return await self._ask("POST", url, data=fields, headers=headers)

    async def _ask(self, method: str, url: str, **options: Any) -> tuple[int, object]:
        import aiohttp  # noqa: PLC0415  # likewise

        try:
            async with (
                aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session,
                session.request(method, url, allow_redirects=False, **options) as response,
            ):
                return response.status, _json(await _read(response.content))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable("connection", error=type(error).__name__) from None


async def _read(stream: "aiohttp.StreamReader") -> bytes:
    body = bytearray()
    async for chunk in stream.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return bytes(body)


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _error_name(body: object) -> str:
    name = body.get("error") if isinstance(body, dict) else None
    return name if isinstance(name, str) and ERROR_NAME.fullmatch(name) else "unknown"


def _is_safe(url: str, issuer: str) -> bool:
    return urlsplit(url).scheme == "https" or (is_local_url(issuer) and is_local_url(url))


def _unavailable(at: str, **facts: object) -> IssuerUnavailable:
    log.warning("sign_in_provider_failed", at=at, **facts)
    return IssuerUnavailable(AWAY, retry_after=RETRY_SECONDS)
