import time

import jwt
import pytest

from agent_service.auth.stream_tokens import AUDIENCE, StreamTokens
from agent_service.auth.tokens import JwtVerifier
from agent_service.errors import Forbidden, Unauthenticated
from agent_service.principal import Principal
from tests.support.jwks import claims

SECRET = b"the secret of this installation."
ADMIN = Principal("acme", "alice", "admin")


def test_any_replica_of_the_installation_accepts_the_token() -> None:
    token, expires_in = StreamTokens(SECRET, lifetime=30).issue(ADMIN)
    assert expires_in == 30
    assert StreamTokens(SECRET).verify(token) == Principal("acme", "alice", "admin", stream_only=True)


def test_another_installation_refuses_the_token() -> None:
    token, _ = StreamTokens(b"the secret of some other system.").issue(ADMIN)
    with pytest.raises(Unauthenticated, match="signature"):
        StreamTokens(SECRET).verify(token)


def test_an_old_token_is_refused() -> None:
    token, _ = StreamTokens(SECRET, lifetime=30, clock=lambda: time.time() - 60).issue(ADMIN)
    with pytest.raises(Unauthenticated, match="expired"):
        StreamTokens(SECRET).verify(token)


def test_a_stream_token_gets_no_other_stream_token() -> None:
    tokens = StreamTokens(SECRET)
    principal = tokens.verify(tokens.issue(ADMIN)[0])
    with pytest.raises(Forbidden):
        tokens.issue(principal)


async def test_a_stream_token_is_no_bearer_token_even_with_the_same_secret() -> None:
    token, _ = StreamTokens(SECRET).issue(ADMIN)
    with pytest.raises(Unauthenticated, match="signature"):
        await JwtVerifier(secret="a shared secret of at least 32 bytes").authenticate(token)
    with pytest.raises(Unauthenticated, match="only opens streams"):
        await JwtVerifier(secret=SECRET.decode()).authenticate(token)


@pytest.mark.parametrize("audience", [None, "slipway", [AUDIENCE + "x"]])
def test_a_bearer_token_is_no_stream_token_even_with_the_same_secret(audience: str | list[str] | None) -> None:
    token = jwt.encode(claims(aud=audience), SECRET, "HS256")
    with pytest.raises(Unauthenticated, match="aud"):
        StreamTokens(SECRET).verify(token)
