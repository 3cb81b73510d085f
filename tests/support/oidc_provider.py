"""An OpenID provider on loopback that holds its clients to the standards: exact redirect URIs, PKCE by S256, codes good once,
refresh tokens that rotate (one used twice ends the session), its own login page, end of session. Can be away, or lie.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from tests.support.http_server import http_server
from tests.support.jwks import SigningKey, make_key

CLIENT_ID, CLIENT_SECRET = "slipway-page", "s3cret/with:signs"


@cache
def usual_key() -> SigningKey:
    """Of every provider that is given no other: an RSA key takes 40 ms of CPU."""
    return make_key("page", "RS256")


@dataclass
class OidcServer:
    """Signs in as `user` at a press of its button, or at once while its own session lives."""

    redirect_uris: list[str] = field(default_factory=list)
    user: str = "alice"
    claims: dict[str, Any] = field(default_factory=dict)
    token_seconds: float = 300
    gives_refresh_token: bool = True
    id_token_on_refresh: bool = True
    refresh_error: str = ""
    away: bool = False
    secret: str | None = CLIENT_SECRET
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the ID token's claims: how it lies."""
    metadata_changes: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    key: SigningKey = field(default_factory=usual_key)
    asked: list[str] = field(default_factory=list)
    """Paths, in order."""
    grants: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    signed_in: set[str] = field(default_factory=set)
    """Its own sessions in browsers."""
    delay: float = 0.0
    """Seconds that the token endpoint takes."""
    silent: asyncio.Event | None = None
    """Its metadata wait for it."""

    @property
    def refreshes(self) -> int:
        return self.grants.count("refresh_token")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return web.Response(status=503)
        self.asked.append(request.path)
        if self.silent and request.path.startswith("/.well-known/"):
            await self.silent.wait()
        handle = {
            "GET /.well-known/openid-configuration": self.discovery,
            "GET /jwks": self.jwks,
            "GET /authorize": self.authorize,
            "POST /authorize": self.authorize,
            "POST /token": self.token,
            "POST /revoke": self.revoke,
            "GET /end": self.end,
        }.get(f"{request.method} {request.path}")
        return await handle(request) if handle else web.Response(status=404)

    async def discovery(self, _: web.Request) -> web.Response:
        return web.json_response(self.metadata())

    async def jwks(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.public_jwk]})

    async def revoke(self, request: web.Request) -> web.Response:
        self.refresh_tokens.pop(str((await request.post())["token"]), None)
        return web.Response()

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "end_session_endpoint": f"{self.url}/end",
            "revocation_endpoint": f"{self.url}/revoke",
            "authorization_response_iss_parameter_supported": True,
            "code_challenge_methods_supported": ["S256"],
            **self.metadata_changes,
        }

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        asked = dict(request.query)
        if asked.get("client_id") != CLIENT_ID or asked.get("redirect_uri") not in self.redirect_uris:
            return web.Response(status=400, text="unknown client or redirect URI")
        if asked.get("code_challenge_method") != "S256" or "openid" not in asked.get("scope", "").split():
            return self.back(asked, error="invalid_request")
        chosen = (await request.post()).get("choice") if request.method == "POST" else None
        if chosen == "deny":
            return self.back(asked, error="access_denied")
        if chosen is None and request.cookies.get("provider") not in self.signed_in:
            return web.Response(text=LOGIN, content_type="text/html")
        code, browser = secrets.token_urlsafe(16), secrets.token_urlsafe(8)
        self.codes[code] = {**asked, "user": self.user}
        response = self.back(asked, code=code)
        self.signed_in.add(browser)
        response.set_cookie("provider", browser, httponly=True, samesite="Lax")
        return response

    def back(self, asked: dict[str, str], **answer: str) -> web.Response:
        query = urlencode({**answer, "state": asked.get("state", ""), "iss": self.url})
        return web.Response(status=302, headers={"Location": f"{asked['redirect_uri']}?{query}"})

    async def token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.grants.append(form.get("grant_type", ""))
        await asyncio.sleep(self.delay)
        if not self.is_client(request, form):
            return web.json_response({"error": "invalid_client"}, status=401)
        if form.get("grant_type") == "authorization_code":
            begun = self.codes.pop(form.get("code", ""), None)
            if begun is None or begun["redirect_uri"] != form.get("redirect_uri") or not _proves(form, begun):
                return web.json_response({"error": "invalid_grant"}, status=400)
            return web.json_response(self.tokens(begun["user"], begun.get("nonce")))
        if self.refresh_error:
            return web.json_response({"error": self.refresh_error}, status=400)
        given = form.get("refresh_token", "")
        if given in self.used:  # RFC 9700 4.14.2: stolen, so all of them end
            self.refresh_tokens.clear()
        user = self.refresh_tokens.pop(given, None)
        if user is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.used.add(given)
        return web.json_response(self.tokens(user, None))

    def is_client(self, request: web.Request, form: dict[str, str]) -> bool:
        if self.secret is None:
            return form.get("client_id") == CLIENT_ID
        expected = base64.b64encode(f"{CLIENT_ID}:{quote(self.secret, safe='')}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {expected}"

    def tokens(self, user: str, nonce: str | None) -> dict[str, Any]:
        now = time.time()
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "sub": user, "iat": int(now), "exp": int(now + self.token_seconds),
            **({"nonce": nonce} if nonce else {}), **self.claims, **self.changes,
        }  # fmt: skip
        answer: dict[str, Any] = {"token_type": "Bearer", "access_token": secrets.token_urlsafe(16)}
        answer["expires_in"] = int(self.token_seconds)
        if nonce or self.id_token_on_refresh:
            answer["id_token"] = self.key.sign(claims)
        if self.gives_refresh_token:
            answer["refresh_token"] = secrets.token_urlsafe(16)
            self.refresh_tokens[answer["refresh_token"]] = user
        return answer

    async def end(self, request: web.Request) -> web.Response:
        self.signed_in.discard(request.cookies.get("provider", ""))
        to = request.query.get("post_logout_redirect_uri", "")
        known = request.query.get("client_id") == CLIENT_ID and any(uri.startswith(to) for uri in self.redirect_uris)
        return web.Response(status=302, headers={"Location": to}) if known and to else web.Response(text="Signed out")


def _proves(form: dict[str, str], begun: dict[str, str]) -> bool:
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == begun["code_challenge"]


LOGIN = """<!doctype html><html lang="en"><title>Provider</title><form method="post">
<button name="choice" value="ok">Sign in as alice</button> <button name="choice" value="deny">Decline</button></form></html>"""


@asynccontextmanager
async def oidc_server(*redirect_uris: str, **how: Any) -> AsyncIterator[OidcServer]:
    server = OidcServer(list(redirect_uris), **how)
    async with http_server(server.answer) as url:
        server.url = url
        yield server
