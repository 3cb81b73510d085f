"""Credentials that are none: forged tokens, keys that nearly are, odd names, stream tokens used for what they are not for.

On two real replicas that take JWTs of an issuer, JWTs of a shared secret and API keys at once. Attempts are counted and printed.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attack.tenants import ISSUER, Attacks, World, claims, replicas_of_two_tenants, victim_of
from tests.support.jwks import SigningKey, make_key
from tests.support.postgres import fresh_database
from tests.support.service import JWT_SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("tenants"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with fresh_database(admin_url) as url:
        async with replicas_of_two_tenants(url, tmp_path_factory.mktemp("tenants")) as opened:
            yield opened


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hs256(header: dict[str, Any], body: Any, secret: bytes) -> str:
    head = f"{b64(header)}.{b64(body)}"
    return f"{head}.{b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def forged(world: World) -> Iterator[tuple[str, str]]:
    """Tokens that are not to be taken, by what is wrong with them."""
    key, body = world.key, claims(sub="ann", tenant="acme")
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for alg in ("none", "None", "NONE", "nOnE", ""):
        yield f"alg {alg!r}", f"{b64({'alg': alg, 'typ': 'JWT'})}.{b64(body)}."
        yield f"alg {alg!r} with kid", f"{b64({'alg': alg, 'kid': 'right'})}.{b64(body)}."
    for alg in ("HS256", "HS384", "HS512"):
        head = f"{b64({'alg': alg, 'kid': 'right', 'typ': 'JWT'})}.{b64(body)}"
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
        yield f"{alg} with the public key", f"{head}.{b64(hmac.new(public, head.encode(), digest).digest())}"
        yield f"{alg} with an empty key", f"{head}.{b64(hmac.new(b'', head.encode(), digest).digest())}"
    for kid in (
        "../../../../dev/null",
        "/etc/passwd",
        "right\x00",
        "' OR '1'='1",
        "RIGHT",
        "",
        "right/../right",
        "http://127.0.0.1/k",
        "x" * 4000,
    ):
        yield f"kid {kid[:24]!r}", hs256({"alg": "HS256", "kid": kid}, body, b"\0")
        yield f"kid {kid[:24]!r} by the secret", hs256({"alg": "HS256", "kid": kid}, body, JWT_SECRET.encode())
    stranger = make_key("right", "RS256")
    yield "a stranger's key of that name", stranger.sign(body)
    jwk = {"jwk": stranger.public_jwk, "jku": "http://127.0.0.1:1/jwks", "x5u": "http://127.0.0.1:1/x"}
    yield "a key in the header", stranger.sign(body, jwk)
    yield "an unknown critical header", key.sign(body, {"crit": ["b64"], "b64": False})
    now = int(time.time())
    odd: dict[str, dict[str, Any]] = {
        "expired": {"exp": now - 60},
        "expired long ago": {"exp": 1},
        "exp missing": {"exp": None},
        "exp a text": {"exp": "never"},
        "exp a list": {"exp": [now + 300]},
        "exp negative": {"exp": -1},
        "exp infinite": {"exp": 1e400},
        "not yet": {"nbf": now + 300},
        "issued later": {"iat": now + 300},
        "other aud": {"aud": "other"},
        "aud missing": {"aud": None},
        "aud of others": {"aud": ["other", "another"]},
        "aud empty": {"aud": []},
        "aud a dict": {"aud": {"slipway": 1}},
        "aud a prefix": {"aud": "slipway-stream"},
        "aud part": {"aud": "slip"},
        "aud stream in a list": {"aud": ["slipway", "slipway-stream"]},
        "other iss": {"iss": "https://evil.example"},
        "iss missing": {"iss": None},
        "iss list": {"iss": [ISSUER]},
        "iss with slash": {"iss": ISSUER + "/"},
        "sub missing": {"sub": None},
        "sub empty": {"sub": ""},
        "sub a number": {"sub": 7},
        "sub a list": {"sub": ["ann"]},
        "sub true": {"sub": True},
        "sub long": {"sub": "a" * 129},
        "sub 4 kB": {"sub": "a" * 4000},
        "sub with NUL": {"sub": "ann\0"},
        "sub with newline": {"sub": "ann\n"},
        "sub with escape": {"sub": "ann\x1b[2J"},
        "sub with a surrogate": {"sub": "ann\ud800"},
        "sub turned round": {"sub": "\u202enna"},
        "sub with a zero width": {"sub": "ann\u200b"},
        "sub with a byte order mark": {"sub": "\ufeffann"},
        "sub a control": {"sub": "ann\x85"},
        "tenant empty": {"tenant": ""},
        "tenant a number": {"tenant": 1},
        "tenant a list": {"tenant": ["acme"]},
        "tenant with NUL": {"tenant": "acme\0"},
        "tenant with newline": {"tenant": "acme\nx"},
        "tenant with a surrogate": {"tenant": "\udfff"},
        "tenant long": {"tenant": "t" * 129},
        "tenant false": {"tenant": False},
        "tenant a dict": {"tenant": {}},
        "role unknown": {"role": "root"},
        "role of case": {"role": "Admin"},
        "role a list": {"role": ["admin"]},
        "role empty": {"role": ""},
        "role with blank": {"role": "admin "},
        "role a number": {"role": 1},
    }
    for name, change in odd.items():
        yield name, signed(key, claims(**{"sub": "ann", "tenant": "acme", **change}))
    good = key.sign(body)
    head, payload, signature = good.split(".")
    other = b64({**body, "sub": "bob"})
    yield "payload exchanged", f"{head}.{other}.{signature}"
    yield "signature cut", f"{head}.{payload}.{signature[:-4]}"
    yield "signature empty", f"{head}.{payload}."
    yield "no signature", f"{head}.{payload}"
    yield "four parts", f"{good}.{signature}"
    yield "payload a list", f"{head}.{b64([1])}.{signature}"
    yield "payload deep", hs256({"alg": "HS256"}, b"[" * 5000, JWT_SECRET.encode())
    yield "huge", key.sign({**body, "more": "x" * 9000})


def signed(key: SigningKey, body: dict[str, Any]) -> str:
    """With any claims: PyJWT's own `encode` refuses some that an issuer may well send."""
    return jwt.PyJWS().encode(json.dumps(body).encode(), key.private, key.algorithm, headers={"kid": key.kid})


async def test_no_forged_token_is_taken(world: World) -> None:
    await victim_of(world)
    attacks = Attacks()
    for name, token in forged(world):
        answer = await world.any().get("/sessions", headers={"Authorization": f"Bearer {token}"})
        attacks.refused(name, answer, 401)
        if token and token in answer.text:
            attacks.succeeded.append(f"{name}: quoted")
    good = world.key.sign(claims(sub="ann", tenant="acme"))
    for name, header in {
        "scheme Basic": f"Basic {good}",
        "no scheme": good,
        "two tokens": f"Bearer {good} {good}",
        "token with comma": f"Bearer {good},{good}",
        "an empty token": "Bearer",
        "key of no form": "Bearer slw_",
        "a key's id alone": f"Bearer {world.keys['ann'][:13]}",
        "a key's prefix": f"Bearer {world.keys['ann'][:-1]}",
        "a key and more": f"Bearer {world.keys['ann']}x",
        "a key in capitals": f"Bearer {world.keys['ann'].upper()}",
        "one key's id, the other's secret": f"Bearer {world.keys['ann'][:13]}{world.keys['mallory'][13:]}",
        "an id that climbs": f"Bearer slw_../../x_{'a' * 43}",
        "a key with a blank": f"Bearer {world.keys['ann'][:20]} {world.keys['ann'][20:]}",
    }.items():
        attacks.refused(name, await world.any().get("/sessions", headers={"Authorization": header}), 401)
    for query in (f"token={good}", f"token={world.keys['ann']}", f"access_token={good}", f"authorization={good}"):
        attacks.refused(query[:12], await world.any().get(f"/sessions?{query}"), 401, 422)
        attacks.refused(query[:12], await world.any().get(f"/chat/stream?question=q&{query}"), 401, 422)
    for right in (good, world.keys["ann"]):
        assert (await world.any().get("/sessions", headers={"Authorization": f"Bearer {right}"})).status_code == 200
    print(f"\ntokens: {attacks.tried} forged, {len(attacks.succeeded)} taken")
    assert attacks.succeeded == []


async def test_names_that_look_alike_are_different_callers(world: World) -> None:
    """Composed and decomposed letters, another alphabet's, case, blanks, and names that a careless joint would make equal."""
    names = [
        ("ann", "acme"),
        ("Ann", "acme"),
        ("ann ", "acme"),
        (" ann", "acme"),
        ("\u0430nn", "acme"),
        ("ann", "acmé"),
        ("ann", "acme\u0301"),
        ("ann", "\uff21\uff23\uff2d\uff25"),
        ("b/c", "a"),
        ("c", "a/b"),
        ("c", "a%2Fb"),
        ("%2F", "a"),
        ("/", "a"),
        ("a:b", "c"),
        ("b", "c:a"),
        ("a.b", "c"),
        ("b", "c.a"),
        ("\ufb01", "t"),
        ("fi", "t"),
        ("'; --", "t"),
        ("{}", "t"),
        ("%s", "t"),
    ]
    for number, (user, tenant) in enumerate(names):
        body = {"question": f"say number {number}", "session_id": "same"}
        answer = await world.any().post("/chat", json=body, headers={**world.bearer(user, tenant), "Idempotency-Key": "same"})
        assert answer.status_code == 200, (user, tenant, answer.text)
    labels = set()
    for number, (user, tenant) in enumerate(names):
        history = (await world.any().get("/sessions/same/messages", headers=world.bearer(user, tenant))).json()["messages"]
        assert [message["content"] for message in history][:1] == [f"say number {number}"], (user, tenant)
    for tenant in {tenant for _, tenant in names}:
        rows = (await world.any().get("/sessions", headers=world.bearer("nobody", tenant, "admin"))).json()["sessions"]
        assert rows == []
    for log in world.logs:
        labels |= {line["principal"] for line in map(json.loads, log.read_text().splitlines()) if "principal" in line}
    assert len(labels) >= len(names)


async def test_a_stream_token_is_good_for_one_run_of_one_caller(world: World) -> None:
    victim, attacks = await victim_of(world), Attacks()
    mine = world.bearer("mallory-with-tokens", "evil")
    run = (await world.any().post("/chat", json={"question": "say mine"}, headers=mine)).json()["run_id"]

    async def token(headers: dict[str, str], run_id: str = "") -> str:
        return str(
            (await world.any().post(f"/auth/stream-token{run_id and '?run_id='}{run_id}", headers=headers)).json()["token"]
        )

    hers, bound, starting = await token(victim.headers, victim.run), await token(mine, run), await token(mine)
    for name, credential in {"bound": bound, "starting": starting}.items():
        for target in (victim.run, victim.waiting_run, str(uuid4())):
            attacks.refused(f"{name}: another run", await world.any().get(f"/runs/{target}/stream?token={credential}"), 403)
            last = {"Last-Event-ID": f"{target}-1-1"}
            attacks.refused(
                f"{name}: event id", await world.any().get(f"/chat/stream?question=q&token={credential}", headers=last), 403
            )
    for name, credential in {"bound": bound, "starting": starting, "hers": hers}.items():
        for method, path in (
            ("GET", "/sessions"),
            ("GET", "/usage"),
            ("GET", f"/runs/{victim.run}"),
            ("POST", "/auth/stream-token"),
            ("POST", f"/runs/{victim.run}/cancel"),
            ("DELETE", "/sessions/hers"),
            ("GET", "/v1/models"),
        ):
            answer = await world.any().request(method, f"{path}?token={credential}")
            attacks.refused(f"{name}: {method} {path}", answer, 401, 422)
            answer = await world.any().request(method, path, headers={"Authorization": f"Bearer {credential}"})
            attacks.refused(f"{name}: {method} {path} as bearer", answer, 401)
    attacks.refused("bound: starts", await world.any().get(f"/chat/stream?question=say+x&token={bound}"), 403)
    head, payload, signature = bound.split(".")
    body = json.loads(base64.urlsafe_b64decode(payload + "=="))
    for name, change in {
        "another run": {"run": victim.run},
        "starts": {"starts": True},
        "another user": {"sub": "ann", "tenant": "acme"},
        "for ever": {"exp": 1 << 40},
    }.items():
        attacks.refused(
            f"changed: {name}", await world.any().get(f"/runs/{run}/stream?token={head}.{b64(body | change)}.{signature}"), 401
        )
        own = jwt.encode(body | change, JWT_SECRET, "HS256")
        attacks.refused(f"signed by the bearer's secret: {name}", await world.any().get(f"/runs/{run}/stream?token={own}"), 401)

    start = f"/chat/stream?question=say+once&token={starting}"
    first = await asyncio.gather(*(world.any().get(start) for _ in range(6)))
    assert {answer.status_code for answer in first} == {200}
    started = {json.loads(re.findall(r'data: (\{"run_id.*)', answer.text)[0])["run_id"] for answer in first}
    assert len(started) == 1
    for question in ("twice", "thrice"):
        again = await world.any().get(f"/chat/stream?question=say+{question}&token={starting}")
        attacks.refused("replayed with another question", again, 409)
    sessions = (await world.any().get("/sessions", headers=mine)).json()["sessions"]
    assert len(sessions) == 2
    for log in world.logs:
        for credential in (hers, bound, starting):
            assert credential not in log.read_text()
    print(
        f"\nstream tokens: {attacks.tried} attacks, {len(attacks.succeeded)} succeeded; one of six starts counted, none in a log"
    )
    assert attacks.succeeded == []
