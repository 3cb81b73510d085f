"""A token issuer on loopback: makes keys, publishes them as a JWKS, signs tokens. Can be down, or slow."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str
    algorithm: str
    private: PrivateKey

    @property
    def public_jwk(self) -> dict[str, Any]:
        return {**_public_jwk(self.private), "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
        """A JWT with these claims, named by this key's id unless `headers` says otherwise."""
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid, **(headers or {})})


def make_key(kid: str, algorithm: str = "ES256") -> SigningKey:
    match algorithm:
        case "RS256":
            return SigningKey(kid, algorithm, rsa.generate_private_key(public_exponent=65537, key_size=2048))
        case "ES256":
            return SigningKey(kid, algorithm, ec.generate_private_key(ec.SECP256R1()))
        case "EdDSA":
            return SigningKey(kid, algorithm, ed25519.Ed25519PrivateKey.generate())
    raise ValueError(algorithm)


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token for user `alice`; a change to None leaves the claim out."""
    now = int(time.time())
    base = {"sub": "alice", "iat": now, "exp": now + 300}
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def _public_jwk(private: PrivateKey) -> dict[str, Any]:
    public = private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return dict(RSAAlgorithm.to_jwk(public, as_dict=True))
    if isinstance(public, ec.EllipticCurvePublicKey):
        return dict(ECAlgorithm.to_jwk(public, as_dict=True))
    return dict(OKPAlgorithm.to_jwk(public, as_dict=True))


@dataclass
class Issuer:
    """Publishes `keys` at `url`. `status` other than 200 makes it fail; clear `answering` to make it hang."""

    keys: list[SigningKey] = field(default_factory=list)
    extra_jwks: list[Any] = field(default_factory=list)
    status: int = 200
    fetches: int = 0
    url: str = ""
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, _: web.Request) -> web.Response:
        self.fetches += 1
        self.asked.set()
        await self.answering.wait()
        document = {"keys": [*(key.public_jwk for key in self.keys), *self.extra_jwks]}
        return web.Response(status=self.status, text=json.dumps(document), content_type="application/json")


@asynccontextmanager
async def serve_issuer(*keys: SigningKey) -> AsyncIterator[Issuer]:
    issuer = Issuer(list(keys))
    issuer.answering.set()
    app = web.Application()
    app.router.add_get("/jwks.json", issuer.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    try:
        yield issuer
    finally:
        issuer.answering.set()
        await runner.cleanup()
