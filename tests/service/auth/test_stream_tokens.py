import time
from uuid import uuid4

import jwt
import pytest

from agent_service.auth.jwt_verifier import JwtVerifier
from agent_service.auth.stream_tokens import AUDIENCE, StreamTokens
from agent_service.errors import Forbidden, Unauthenticated
from agent_service.principal import Principal, StreamGrant
from tests.support.jwks import claims

SECRET = b"the secret of this installation."
ADMIN = Principal("acme", "alice", "admin")


def test_any_replica_of_the_installation_accepts_the_token() -> None:
    token, expires_in = StreamTokens(SECRET, lifetime=30).issue(ADMIN)
    assert expires_in == 30
    principal = StreamTokens(SECRET).verify(token)
    assert (principal.tenant, principal.user, principal.role) == ("acme", "alice", "admin")


def test_a_token_is_for_the_run_that_was_asked_for_or_for_a_new_one_of_its_own() -> None:
    tokens, run = StreamTokens(SECRET), uuid4()
    assert tokens.verify(tokens.issue(ADMIN, run)[0]).grant == StreamGrant(run, starts=False)
    first, second = (tokens.verify(tokens.issue(ADMIN)[0]).grant for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.starts, second.starts) == (True, True)
    assert first.run_id != second.run_id


def test_a_token_of_an_older_version_which_named_no_run_is_refused() -> None:
    token = jwt.encode(claims(aud=AUDIENCE), SECRET, "HS256")
    with pytest.raises(Unauthenticated, match="for no run"):
        StreamTokens(SECRET).verify(token)


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
