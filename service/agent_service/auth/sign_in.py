"""Signing in to the service's own pages by OpenID Connect: authorisation code with PKCE, held by the service for the page.

The page gets no token. What a sign-in needs until its end, and who has signed in, are sealed in cookies of the browser, so
that no replica keeps anything: docs/operations/authentication.md says why.
"""

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent_service.auth.claims import Identity, identify
from agent_service.auth.oidc_provider import GONE, OidcProvider
from agent_service.auth.sealing import Sealer
from agent_service.errors import IssuerUnavailable, Unauthenticated
from agent_service.logs import logger
from agent_service.principal import Principal
from agent_service.settings import Settings

Page = Literal["chat", "spend"]
"""That a sign-in comes back to. A name, never an address: there is nothing to redirect to elsewhere."""

PATHS: dict[Page, str] = {"chat": "/", "spend": "/spend"}

CALLBACK = "/auth/callback"

PENDING_SECONDS = 600
"""In which a person signs in at the provider, a second factor included."""

MAX_PENDING = 8
"""Sign-ins of one browser that are under way: each has a cookie of 400 bytes, and proxies refuse headers beyond 8 KiB."""

MAX_SESSION_SECONDS = 3600
"""After which the provider is asked anew at the latest: how long one whom it has locked out goes on here."""

COOKIE_BYTES = 4000
"""Browsers drop a cookie whose name and value are beyond 4,096 bytes."""

log = logger(__name__)

Kept = TypeVar("Kept", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie to set; an empty value takes it away. `max_age` in seconds; None: until the browser is closed."""

    name: str
    value: str
    same_site: Literal["strict", "lax"]
    max_age: int | None = None


class Pending(BaseModel):
    """A sign-in that has begun in this browser."""

    model_config = ConfigDict(frozen=True)

    state: str
    nonce: str
    verifier: str
    page: Page
    until: float


class Session(BaseModel):
    """Who has signed in, good `until` then (Unix time). The refresh token gets the next one."""

    model_config = ConfigDict(frozen=True)

    identity: Identity
    until: float
    refresh_token: str | None = Field(None, repr=False)


class SignInFailed(Exception):
    """`why` is a word that the page has a sentence for."""

    def __init__(self, why: Literal["expired", "denied", "refused"]) -> None:
        super().__init__(why)
        self.why = why


class SignIn:
    """Good for all requests of a process, and for what another replica with the same `secret` began."""

    def __init__(self, settings: Settings, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self.base = str(settings.public_url).rstrip("/")
        self.secure = self.base.startswith("https://")
        self.provider = OidcProvider(settings)
        self._client_id = str(settings.oidc_client_id)
        self._issuer = str(settings.oidc_issuer)
        self._scopes = settings.oidc_scopes
        self.clock = clock
        # Of installations that share a host, each has cookies of its own. `__Host-`: set by this host itself, over TLS.
        installation = hashlib.sha256(self.base.encode()).hexdigest()[:8]
        self._name = f"{'__Host-' if self.secure else ''}slipway-{installation}"
        self._pending = Sealer(secret, f"sign-in {self.base}")
        self._sessions = Sealer(secret, f"session {self.base}")

    async def begin(self, page: Page, cookies: Iterable[str] = ()) -> tuple[str, list[Cookie]]:
        """The provider's address to go to, and what the browser keeps meanwhile. Raises IssuerUnavailable.

        Args:
            cookies: names of those that the browser has: where many sign-ins were given up, all of them are.
        """
        metadata = await self.provider.metadata()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self.base + CALLBACK,
            "scope": self._scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        pending = Pending(state=state, nonce=nonce, verifier=verifier, page=page, until=self.clock() + PENDING_SECONDS)
        sealed = self._pending.seal(pending.model_dump_json())
        begun = Cookie(self._pending_name(state), sealed, "lax", PENDING_SECONDS)
        given_up = [name for name in cookies if name.startswith(f"{self._name}-")]
        forgotten = given_up if len(given_up) >= MAX_PENDING else []
        return _with_query(metadata.authorization_endpoint, query), [begun, *(Cookie(name, "", "lax", 0) for name in forgotten)]

    async def finish(self, answer: Mapping[str, str], cookies: Mapping[str, str]) -> tuple[Page, list[Cookie]]:
        """The page to go back to, and the session, from the provider's answer in the query of the callback.

        Raises:
            SignInFailed: this browser has begun no such sign-in, the person declined, or the tokens are not good.
            IssuerUnavailable: as the provider does not answer.
        """
        pending = self._begun(answer.get("state", ""), cookies)
        metadata = await self.provider.metadata()
        # RFC 9207, against mix-up: an answer of another provider is no answer.
        named = answer.get("iss", "" if metadata.authorization_response_iss_parameter_supported else self._issuer)
        if named != self._issuer:
            raise _failed("refused", "another issuer")
        if "error" in answer:
            raise _failed("denied" if answer["error"] == "access_denied" else "refused", "the provider says error")
        try:
            session = await self._redeem(answer.get("code", ""), pending)
        except Unauthenticated as error:
            raise _failed("refused", error.detail) from None
        return pending.page, [self.forget_pending(pending.state), self._keep(session)]

    async def _redeem(self, code: str, pending: Pending) -> Session:
        tokens = await self.provider.redeem(code, pending.verifier, self.base + CALLBACK)
        if not tokens.id_token:
            raise Unauthenticated("the provider gave no ID token")
        claims = await self.provider.claims(tokens.id_token)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), pending.nonce.encode()):
            raise Unauthenticated("the token is of another sign-in")
        return Session(identity=identify(claims), until=self._until(claims), refresh_token=tokens.refresh_token)

    def principal(self, cookies: Mapping[str, str]) -> Principal:
        """Who has signed in with this browser. Raises Unauthenticated."""
        session = self._session(cookies)
        if session is None:
            raise Unauthenticated("nobody has signed in with this browser")
        if session.until <= self.clock():
            raise Unauthenticated("the sign-in has expired")
        return session.identity.principal()

    async def renew(self, cookies: Mapping[str, str]) -> Cookie | None:
        """The session anew if it has expired; None while it is good, as another tab has renewed it.

        Raises:
            Unauthenticated: one has to sign in again.
            IssuerUnavailable: the provider does not answer.
        """
        session = self._session(cookies)
        if session is None or (session.until <= self.clock() and not session.refresh_token):
            raise Unauthenticated("sign in again")
        if session.until > self.clock() or session.refresh_token is None:
            return None
        tokens = await self.provider.refresh(session.refresh_token)
        if not tokens.id_token:  # OIDC Core 12.2 allows it, but then nobody says which role they have now
            raise Unauthenticated("the provider gave no ID token; sign in again")
        claims = await self.provider.claims(tokens.id_token)
        identity = identify(claims)
        if identity.sub != session.identity.sub:  # OIDC Core 12.2
            raise Unauthenticated(GONE)
        refresh_token = tokens.refresh_token or session.refresh_token
        return self._keep(Session(identity=identity, until=self._until(claims), refresh_token=refresh_token))

    async def end(self, cookies: Mapping[str, str]) -> tuple[str | None, Cookie]:
        """The provider's address where one signs out of it, if it has one, and the cookie to take away.

        Without `id_token_hint`, which would put a token in an address: the provider may ask whether it is meant.
        """
        gone = Cookie(self._name, "", "strict", 0)
        session = self._session(cookies)
        if session is None:
            return None, gone
        try:
            url = (await self.provider.metadata()).end_session_endpoint
        except IssuerUnavailable:  # one signs out here all the same
            return None, gone
        if session.refresh_token:
            await self.provider.revoke(session.refresh_token)
        query = {"client_id": self._client_id, "post_logout_redirect_uri": f"{self.base}/"}
        return _with_query(url, query) if url else None, gone

    def forget_pending(self, state: str) -> Cookie:
        return Cookie(self._pending_name(state), "", "lax", 0)

    def _begun(self, state: str, cookies: Mapping[str, str]) -> Pending:
        found = _read(Pending, self._pending.open(cookies.get(self._pending_name(state), "")))
        if found is None or not hmac.compare_digest(found.state.encode(), state.encode()) or found.until <= self.clock():
            raise _failed("expired", "this browser has begun no such sign-in")
        return found

    def _session(self, cookies: Mapping[str, str]) -> Session | None:
        return _read(Session, self._sessions.open(cookies.get(self._name, "")))

    def _keep(self, session: Session) -> Cookie:
        sealed = self._sessions.seal(session.model_dump_json())
        if len(self._name) + len(sealed) > COOKIE_BYTES and session.refresh_token:
            log.warning("sign_in_refresh_token_too_long", chars=len(session.refresh_token))
            return self._keep(session.model_copy(update={"refresh_token": None}))
        return Cookie(self._name, sealed, "strict")

    def _until(self, claims: Mapping[str, Any]) -> float:
        return min(float(claims["exp"]), self.clock() + MAX_SESSION_SECONDS)

    def _pending_name(self, state: str) -> str:
        # One for each sign-in: those of two tabs do not disturb each other.
        return f"{self._name}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"


def _read(model: type[Kept], text: str | None) -> Kept | None:
    try:
        return model.model_validate_json(text) if text is not None else None
    except ValidationError:  # of another version
        return None


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"


def _failed(why: Literal["expired", "denied", "refused"], detail: str) -> SignInFailed:
    log.warning("sign_in_failed", why=why, detail=detail)
    return SignInFailed(why)
