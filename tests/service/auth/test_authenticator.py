from pathlib import Path

import jwt
import pytest

from agent_service.auth.api_keys import create_key
from agent_service.auth.authenticator import MAX_CREDENTIAL_CHARS, Authenticator, build_authenticator
from agent_service.errors import Unauthenticated
from agent_service.principal import Principal
from agent_service.settings import load_settings
from tests.support.jwks import claims, make_key, serve_issuer

JWT_SECRET = "a shared secret of at least 32 bytes"
STREAM_SECRET = b"the secret of this installation."
ALICE = Principal("acme", "alice", "user")


def build(**environ: str) -> Authenticator:
    return build_authenticator(load_settings(environ), STREAM_SECRET)


@pytest.fixture
def key(tmp_path: Path) -> str:
    return create_key(tmp_path, user="alice", tenant="acme", role="user", expires_at=None)


@pytest.fixture
def both(tmp_path: Path) -> Authenticator:
    return build(API_KEYS_DIR=str(tmp_path), JWT_SECRET=JWT_SECRET)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
async def test_the_scheme_is_case_insensitive(both: Authenticator, key: str, scheme: str) -> None:
    assert await both.authenticate(f"{scheme} {key}", None) == ALICE


async def test_keys_and_tokens_are_accepted_side_by_side(both: Authenticator, key: str) -> None:
    token = jwt.encode(claims(tenant="acme"), JWT_SECRET, "HS256")
    assert await both.authenticate(f"Bearer {key}", None) == await both.authenticate(f"Bearer {token}", None) == ALICE


async def test_tokens_of_the_configured_issuer_are_accepted() -> None:
    signing = make_key("k1")
    async with serve_issuer(signing) as issuer:
        authenticator = build(JWT_JWKS_URL=issuer.url, JWT_ISSUER="me", JWT_AUDIENCE="slipway")
        good = signing.sign(claims(iss="me", aud="slipway", tenant="acme"))
        assert await authenticator.authenticate(f"Bearer {good}", None) == ALICE
        with pytest.raises(Unauthenticated, match="issuer"):
            await authenticator.authenticate(f"Bearer {signing.sign(claims(iss='you', aud='slipway'))}", None)


async def test_a_stream_token_opens_streams_only(both: Authenticator) -> None:
    token, _ = both.stream_tokens.issue(ALICE)
    principal = await both.authenticate(None, token)
    assert (principal.tenant, principal.user, principal.grant and principal.grant.starts) == ("acme", "alice", True)
    with pytest.raises(Unauthenticated):
        await both.authenticate(f"Bearer {token}", None)


async def test_a_key_or_a_bearer_token_in_the_address_is_refused(both: Authenticator, key: str) -> None:
    for credential in (key, jwt.encode(claims(), JWT_SECRET, "HS256")):
        with pytest.raises(Unauthenticated):
            await both.authenticate(None, credential)


async def test_a_wrong_header_is_not_saved_by_a_good_stream_token(both: Authenticator) -> None:
    token, _ = both.stream_tokens.issue(ALICE)
    with pytest.raises(Unauthenticated):
        await both.authenticate("Bearer wrong", token)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "send `Authorization: Bearer`"),
        ("", "scheme"),
        ("Basic YTpi", "scheme"),
        ("slw_abcdefgh", "scheme"),
        ("Bearer", "malformed"),
        ("Bearer ", "malformed"),
        ("Bearer a b", "malformed"),
        ("Bearer caf\xe9", "malformed"),
        ("Bearer \ud800", "malformed"),
        ("Bearer a\x00b", "malformed"),
        ("Bearer not-a-token", "malformed"),
        ("Bearer slw_abcdefgh_wrong", "the API key is not known"),
        ("Bearer slw_abcdefgh_" + "a" * 43, "the API key is not known"),
        ("Bearer " + "a" * (MAX_CREDENTIAL_CHARS + 1), "longer"),
    ],
)
async def test_a_bad_header_is_refused_with_the_reason(both: Authenticator, header: str | None, says: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await both.authenticate(header, None)
    assert says in caught.value.detail


async def test_a_very_long_stream_token_is_refused_before_any_work(both: Authenticator) -> None:
    with pytest.raises(Unauthenticated, match="longer"):
        await both.authenticate(None, "a" * (MAX_CREDENTIAL_CHARS + 1))


async def test_an_unknown_id_and_a_wrong_secret_are_not_told_apart(both: Authenticator, key: str) -> None:
    details = set()
    for wrong in (f"slw_00000000_{'a' * 43}", f"{key[:13]}{'a' * 43}"):
        with pytest.raises(Unauthenticated) as caught:
            await both.authenticate(f"Bearer {wrong}", None)
        details.add(caught.value.detail)
    assert len(details) == 1


async def test_a_way_that_is_not_set_up_is_closed(tmp_path: Path, key: str) -> None:
    with pytest.raises(Unauthenticated, match="tokens are not accepted"):
        await build(API_KEYS_DIR=str(tmp_path)).authenticate(f"Bearer {jwt.encode(claims(), JWT_SECRET, 'HS256')}", None)
    with pytest.raises(Unauthenticated, match="not known"):
        await build(JWT_SECRET=JWT_SECRET).authenticate(f"Bearer {key}", None)


async def test_everyone_is_the_local_admin_when_authentication_is_disabled() -> None:
    authenticator = build(AUTH="disabled")
    assert await authenticator.authenticate(None, None) == Principal("default", "local", "platform")
    assert await authenticator.authenticate("Bearer anything", None) == Principal("default", "local", "platform")
