import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent_service.auth.jwks import Jwks
from agent_service.auth.jwt_verifier import JwtVerifier
from agent_service.errors import Unauthenticated
from agent_service.principal import Principal
from tests.support.jwks import SigningKey, claims, make_key, serve_issuer

SECRET = "a shared secret of at least 32 bytes"
SHARED = JwtVerifier(secret=SECRET, issuer="https://id.example", audience="slipway")


def shared_claims(**changes: Any) -> dict[str, Any]:
    return claims(**{"iss": "https://id.example", "aud": "slipway", **changes})


def shared_token(**changes: Any) -> str:
    return jwt.encode(shared_claims(**changes), SECRET, "HS256")


def unsigned_token(header: dict[str, Any], body: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, body)]
    return ".".join([*parts, ""])


async def refusal(verifier: JwtVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.authenticate(token)
    assert token not in caught.value.detail
    return caught.value.detail


async def test_claims_become_the_principal() -> None:
    assert await SHARED.authenticate(shared_token()) == Principal("default", "alice", "user")
    token = shared_token(sub="bob", tenant="acme", role="admin")
    assert await SHARED.authenticate(token) == Principal("acme", "bob", "admin")


async def test_one_of_several_audiences_is_enough() -> None:
    assert (await SHARED.authenticate(shared_token(aud=["other", "slipway"]))).user == "alice"


async def test_clocks_may_differ_by_the_leeway() -> None:
    now = int(time.time())
    assert (await SHARED.authenticate(shared_token(exp=now - 5))).user == "alice"
    assert (await SHARED.authenticate(shared_token(nbf=now + 5))).user == "alice"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"nbf": int(time.time()) + 86_400}, "not valid yet"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"aud": "slipway-stream"}, "another audience"),
        ({"aud": ["a", "b"]}, "another audience"),
        ({"exp": None}, "`exp`"),
        ({"iss": None}, "`iss`"),
        ({"aud": None}, "`aud`"),
        ({"sub": None}, "`sub`"),
        ({"exp": "soon"}, "malformed"),
        ({"sub": ""}, "`sub`"),
        ({"sub": "a" * 129}, "`sub`"),
        ({"sub": "a\nb"}, "`sub`"),
        ({"tenant": "a\x00b"}, "`tenant`"),
        ({"tenant": 7}, "`tenant`"),
        ({"role": "superuser"}, "`role`"),
        ({"role": ["admin"]}, "`role`"),
        ({"role": "Admin"}, "`role`"),
    ],
)
async def test_a_bad_claim_is_refused_and_named(changes: dict[str, Any], says: str) -> None:
    assert says in await refusal(SHARED, shared_token(**changes))


async def test_a_number_as_subject_is_refused() -> None:
    body = json.dumps({**shared_claims(), "sub": 7}).encode()
    assert "malformed" in await refusal(SHARED, jwt.PyJWS().encode(body, SECRET, "HS256"))


async def test_an_infinite_expiry_is_refused() -> None:
    body = json.dumps({**shared_claims(), "exp": float("inf")}).encode()
    assert "malformed" in await refusal(SHARED, jwt.PyJWS().encode(body, SECRET, "HS256"))


async def test_a_token_of_another_secret_is_refused() -> None:
    token = jwt.encode(shared_claims(), "another secret of at least 32 bytes", "HS256")
    assert "signature" in await refusal(SHARED, token)


@pytest.mark.parametrize("name", ["none", "None", "NONE", ""])
async def test_an_unsigned_token_is_refused(name: str) -> None:
    token = unsigned_token({"alg": name, "typ": "JWT"}, shared_claims())
    assert "algorithm" in await refusal(SHARED, token)


async def test_another_hash_than_the_fixed_one_is_refused() -> None:
    long = SECRET * 2
    assert "algorithm" in await refusal(JwtVerifier(secret=long), jwt.encode(claims(), long, "HS512"))


@pytest.mark.parametrize("token", ["x", "a.b", "a.b.c", "....", "e30.e30.e30", "eyJhbGciOiJIUzI1NiJ9.W10.x"])
async def test_text_that_is_no_token_is_refused(token: str) -> None:
    assert await refusal(SHARED, token)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_of_a_published_key_is_accepted(algorithm: str) -> None:
    key = make_key("k1", algorithm)
    async with serve_issuer(key) as issuer:
        verifier = JwtVerifier(jwks=Jwks(issuer.url), audience="slipway")
        assert (await verifier.authenticate(key.sign(claims(aud="slipway")))).user == "alice"
        assert "another audience" in await refusal(verifier, key.sign(claims(aud="other")))


async def test_a_published_key_is_no_shared_secret() -> None:
    key = make_key("k1", "RS256")
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # PyJWT refuses to make this token, as it should; an attacker's tool does not.
    forged = _hmac_signed(public, kid="k1")
    async with serve_issuer(key) as issuer:
        assert "algorithm" in await refusal(JwtVerifier(jwks=Jwks(issuer.url)), forged)
        assert "algorithm" in await refusal(JwtVerifier(jwks=Jwks(issuer.url), secret=SECRET), forged)


def _hmac_signed(secret: bytes, kid: str) -> str:
    unsigned = unsigned_token({"alg": "HS256", "typ": "JWT", "kid": kid}, claims())[:-1]
    prepared = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(prepared.sign(unsigned.encode(), secret)).rstrip(b"=").decode()
    return f"{unsigned}.{signature}"


async def test_a_published_symmetric_key_is_not_used() -> None:
    key, published = make_key("k1"), b"published, so anyone can sign with it"
    async with serve_issuer(key) as issuer:
        issuer.extra_jwks = [{"kty": "oct", "kid": "k2", "k": base64.urlsafe_b64encode(published).decode(), "alg": "HS256"}]
        assert "unknown key" in await refusal(JwtVerifier(jwks=Jwks(issuer.url)), _hmac_signed(published, kid="k2"))


async def test_a_key_signs_for_one_algorithm_only() -> None:
    key = make_key("k1", "RS256")
    async with serve_issuer(key) as issuer:
        other = SigningKey("k1", "PS256", key.private)
        assert "algorithm" in await refusal(JwtVerifier(jwks=Jwks(issuer.url)), other.sign(claims()))


async def test_an_issuer_and_a_secret_can_be_used_together() -> None:
    key = make_key("k1")
    async with serve_issuer(key) as issuer:
        verifier = JwtVerifier(jwks=Jwks(issuer.url), secret=SECRET)
        assert (await verifier.authenticate(key.sign(claims()))).user == "alice"
        assert (await verifier.authenticate(jwt.encode(claims(), SECRET, "HS256"))).user == "alice"


async def test_a_token_without_a_key_id_means_the_only_key() -> None:
    key, second = make_key("k1"), make_key("k2")
    async with serve_issuer(key) as issuer:
        token = jwt.encode(claims(), key.private, "ES256")
        assert (await JwtVerifier(jwks=Jwks(issuer.url)).authenticate(token)).user == "alice"
        issuer.keys.append(second)
        assert "unknown key" in await refusal(JwtVerifier(jwks=Jwks(issuer.url)), token)
