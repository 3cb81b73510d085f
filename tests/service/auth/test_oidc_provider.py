import asyncio
from typing import Any

import pytest

from agent_service.auth import oidc_provider
from agent_service.auth.oidc_provider import FRESH_SECONDS, MAX_ANSWER_BYTES, RETRY_SECONDS, OidcProvider
from agent_service.errors import IssuerUnavailable, Unauthenticated
from agent_service.settings import load_settings
from tests.support.clock import Clock
from tests.support.jwks import claims, make_key
from tests.support.oidc_provider import CLIENT_ID, OidcServer, oidc_server

METADATA = "/.well-known/openid-configuration"


def client_of(server: OidcServer, clock: Clock | None = None) -> OidcProvider:
    env = {"OIDC_ISSUER": server.url, "OIDC_CLIENT_ID": CLIENT_ID, "PUBLIC_URL": "http://localhost"}
    return OidcProvider(load_settings(env), clock or Clock())


async def test_metadata_are_read_once_an_hour_and_kept_while_the_provider_is_away() -> None:
    clock = Clock()
    async with oidc_server() as server:
        provider = client_of(server, clock)
        first = await provider.metadata()
        assert await provider.metadata() is first
        server.away = True
        clock.pass_by(FRESH_SECONDS)
        assert await provider.metadata() is first
        server.away = False
        assert server.asked == [METADATA]
        clock.pass_by(RETRY_SECONDS)
        await provider.metadata()
        assert server.asked == [METADATA] * 2


async def test_who_asks_while_the_provider_is_away_does_not_make_it_busier() -> None:
    async with oidc_server(metadata_changes={"issuer": "https://another.example"}) as server:
        provider = client_of(server)
        for _ in range(20):
            with pytest.raises(IssuerUnavailable):
                await provider.metadata()
        assert server.asked == [METADATA]


async def test_a_provider_that_hangs_is_waited_for_once_and_not_by_who_has_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_provider, "TIMEOUT_SECONDS", 0.2)
    clock = Clock()
    async with oidc_server() as server:
        provider, strange = client_of(server, clock), client_of(server, clock)
        known = await provider.metadata()
        server.silent = asyncio.Event()
        server.asked.clear()
        try:
            ended = await asyncio.gather(*(strange.metadata() for _ in range(6)), return_exceptions=True)
            assert [type(each) for each in ended] == [IssuerUnavailable] * 6
            assert server.asked == [METADATA]
            clock.pass_by(FRESH_SECONDS)
            refreshing = asyncio.create_task(provider.metadata())
            while len(server.asked) < 2:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(0.1):
                assert await provider.metadata() is known
            assert await refreshing is known
        finally:
            server.silent.set()


@pytest.mark.parametrize(
    "lie",
    [
        {"issuer": "https://another.example"},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"end_session_endpoint": "http://elsewhere.example/end"},
        {"jwks_uri": None},
        {"padding": "x" * MAX_ANSWER_BYTES},
    ],
)
async def test_metadata_that_are_not_of_this_issuer_or_not_safe_are_not_used(lie: dict[str, Any]) -> None:
    async with oidc_server(metadata_changes=lie) as server:
        with pytest.raises(IssuerUnavailable):
            await client_of(server).metadata()


async def test_a_token_of_another_key_is_refused() -> None:
    async with oidc_server() as server:
        stranger = make_key("page", "RS256")
        with pytest.raises(Unauthenticated):
            await client_of(server).claims(stranger.sign(claims(iss=server.url, aud=CLIENT_ID)))
        with pytest.raises(Unauthenticated):
            await client_of(server).claims("no token")


async def test_a_wrong_client_secret_is_the_operators_problem_and_said_in_the_log_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with oidc_server() as server:
        with pytest.raises(IssuerUnavailable):
            await client_of(server).redeem("c0de-of-the-test", "v3rifier", "http://localhost/auth/callback")
    assert "c0de-of-the-test" not in caplog.text
