"""Sign-in against a provider on loopback, with the browser's cookies in a dict."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from agent_service.auth.sign_in import MAX_PENDING, MAX_SESSION_SECONDS, PENDING_SECONDS, Cookie, SignIn, SignInFailed
from agent_service.errors import IssuerUnavailable, Unauthenticated
from agent_service.principal import Principal
from agent_service.settings import load_settings
from tests.support.clock import Clock
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcServer, oidc_server

BASE = "http://127.0.0.1:1"
SECRET = b"s" * 32


@dataclass
class Browser:
    """One person's, at the service and at the provider."""

    provider: OidcServer
    clock: Clock = field(default_factory=lambda: Clock(time.time()))
    cookies: dict[str, str] = field(default_factory=dict)
    base: str = BASE
    secret: str | None = CLIENT_SECRET

    def replica(self, **env: str) -> SignIn:
        given = {"OIDC_CLIENT_SECRET": self.secret} if self.secret else {}
        settings = load_settings(
            {"OIDC_ISSUER": self.provider.url, "OIDC_CLIENT_ID": CLIENT_ID, "PUBLIC_URL": self.base, **given, **env}
        )
        return SignIn(settings, SECRET, self.clock)

    def keep(self, *cookies: Cookie) -> None:
        self.cookies.update({each.name: each.value for each in cookies if each.value})
        for each in cookies:
            if not each.value:
                self.cookies.pop(each.name, None)

    async def begin(self) -> str:
        url, cookies = await self.replica().begin("chat", self.cookies)
        self.keep(*cookies)
        return url

    async def answer(self, url: str, choice: str = "ok") -> dict[str, str]:
        """What the provider sends back to the callback, once the person has pressed its button."""
        async with httpx.AsyncClient() as http:
            response = await http.post(url, data={"choice": choice})
        return dict(parse_qsl(urlsplit(response.headers["Location"]).query))

    async def sign_in(self) -> SignIn:
        """Begun at one replica, finished at another."""
        answer = await self.answer(await self.begin())
        sign_in = self.replica()
        _, cookies = await sign_in.finish(answer, self.cookies)
        self.keep(*cookies)
        return sign_in


@pytest.fixture
async def provider() -> AsyncIterator[OidcServer]:
    async with oidc_server(f"{BASE}/auth/callback") as server:
        yield server


@pytest.fixture
def browser(provider: OidcServer) -> Browser:
    return Browser(provider)


async def test_a_sign_in_that_one_replica_began_another_finishes_and_a_third_knows(browser: Browser) -> None:
    browser.provider.claims = {"tenant": "acme", "role": "admin"}
    await browser.sign_in()
    assert browser.replica().principal(browser.cookies) == Principal("acme", "alice", "admin")
    assert len(browser.cookies) == 1  # the one of the sign-in that has ended is gone


async def test_the_address_of_the_provider_has_a_challenge_and_neither_verifier_nor_secret(browser: Browser) -> None:
    url = await browser.begin()
    query = dict(parse_qsl(urlsplit(url).query))
    assert query["code_challenge_method"] == "S256"
    assert set(query) == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method"
    }  # fmt: skip


async def test_a_client_without_a_secret_signs_in_by_pkce_alone(browser: Browser) -> None:
    browser.provider.secret = browser.secret = None
    sign_in = await browser.sign_in()
    assert sign_in.principal(browser.cookies).user == "alice"


async def test_no_cookie_holds_a_token_that_can_be_read(browser: Browser) -> None:
    await browser.sign_in()
    (refresh_token,) = browser.provider.refresh_tokens
    kept = "".join(browser.cookies.values())
    assert refresh_token not in kept
    assert "alice" not in kept


async def test_an_answer_that_this_browser_did_not_ask_for_is_refused(browser: Browser) -> None:
    """Login CSRF: a link with the attacker's code, opened by the victim."""
    answer = await browser.answer(await browser.begin())
    victim = Browser(browser.provider)
    await victim.begin()
    with pytest.raises(SignInFailed, match="expired"):
        await victim.replica().finish(answer, victim.cookies)


@pytest.mark.parametrize("change", [{"state": "wrong"}, {"state": ""}])
async def test_a_wrong_state_is_refused_and_no_code_redeemed(browser: Browser, change: dict[str, str]) -> None:
    answer = await browser.answer(await browser.begin())
    with pytest.raises(SignInFailed, match="expired"):
        await browser.replica().finish(answer | change, browser.cookies)
    assert browser.provider.grants == []


async def test_the_cookie_of_one_sign_in_does_not_pass_for_another_nor_for_a_session(browser: Browser) -> None:
    answer = await browser.answer(await browser.begin())
    (first,) = browser.cookies.items()
    other = await browser.answer(await browser.begin())
    (name,) = browser.cookies.keys() - {first[0]}
    with pytest.raises(SignInFailed, match="expired"):
        await browser.replica().finish(other, {name: first[1]})
    with pytest.raises(Unauthenticated):
        browser.replica().principal({name.rpartition("-")[0]: first[1]})
    assert answer["state"] != other["state"]


async def test_a_sign_in_that_takes_too_long_begins_anew(browser: Browser) -> None:
    answer = await browser.answer(await browser.begin())
    browser.clock.pass_by(PENDING_SECONDS)
    with pytest.raises(SignInFailed, match="expired"):
        await browser.replica().finish(answer, browser.cookies)


async def test_two_tabs_sign_in_side_by_side(browser: Browser) -> None:
    one, other = [await browser.answer(await browser.begin()) for _ in range(2)]
    for answer in (other, one):
        _, cookies = await browser.replica().finish(answer, browser.cookies)
        browser.keep(*cookies)
    assert browser.replica().principal(browser.cookies).user == "alice"


@pytest.mark.parametrize("change", [{"iss": "https://evil.example"}, {"iss": None}, {"code": "made-up"}, {"code": None}])
async def test_an_answer_of_another_issuer_or_with_another_code_is_refused(browser: Browser, change: dict[str, Any]) -> None:
    answer = {k: v for k, v in ((await browser.answer(await browser.begin())) | change).items() if v is not None}
    with pytest.raises(SignInFailed, match="refused"):
        await browser.replica().finish(answer, browser.cookies)


@pytest.mark.parametrize(
    "lie",
    [
        {"nonce": "of another"},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "other"]},
        {"aud": [CLIENT_ID, "other"], "azp": "other"},
        {"azp": "other"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"sub": ""},
        {"role": "root"},
        {"tenant": 5},
    ],
)
async def test_an_id_token_that_is_not_for_this_sign_in_is_refused(browser: Browser, lie: dict[str, Any]) -> None:
    browser.provider.changes = lie
    with pytest.raises(SignInFailed, match="refused"):
        await browser.sign_in()


async def test_who_declines_at_the_provider_is_told_so(browser: Browser) -> None:
    answer = await browser.answer(await browser.begin(), "deny")
    with pytest.raises(SignInFailed, match="denied"):
        await browser.replica().finish(answer, browser.cookies)


async def test_a_session_ends_with_its_token_and_is_renewed_with_the_claims_of_then(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    browser.clock.pass_by(browser.provider.token_seconds + 1)
    with pytest.raises(Unauthenticated, match="expired"):
        sign_in.principal(browser.cookies)
    browser.provider.claims = {"role": "admin"}
    browser.provider.token_seconds *= 3
    await renew(browser)
    assert browser.replica().principal(browser.cookies) == Principal("default", "alice", "admin")


async def renew(browser: Browser) -> None:
    cookie = await browser.replica().renew(browser.cookies)
    assert cookie is not None
    browser.keep(cookie)


async def test_a_session_that_is_good_is_not_renewed_so_a_second_tab_spends_no_refresh_token(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    assert await sign_in.renew(browser.cookies) is None
    assert browser.provider.refreshes == 0


async def test_where_a_refresh_does_not_say_who_it_is_and_in_which_role_one_signs_in_again(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    browser.provider.id_token_on_refresh = False
    browser.clock.pass_by(browser.provider.token_seconds + 1)
    with pytest.raises(Unauthenticated, match="sign in again"):
        await sign_in.renew(browser.cookies)


@pytest.mark.parametrize("error", ["interaction_required", "login_required", "consent_required"])
async def test_a_refresh_for_which_the_provider_asks_for_the_person_ends_the_session(browser: Browser, error: str) -> None:
    sign_in = await browser.sign_in()
    browser.provider.refresh_error = error
    browser.clock.pass_by(browser.provider.token_seconds + 1)
    with pytest.raises(Unauthenticated, match="has ended at the provider"):
        await sign_in.renew(browser.cookies)


async def test_sign_ins_that_are_given_up_do_not_fill_the_headers_of_the_browser(browser: Browser) -> None:
    for _ in range(5 * MAX_PENDING):
        await browser.begin()
        assert len(browser.cookies) <= MAX_PENDING
    await browser.sign_in()
    assert browser.replica().principal(browser.cookies).user == "alice"


async def test_a_refresh_that_answers_for_somebody_else_ends_the_session(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    browser.provider.changes = {"sub": "mallory"}
    browser.provider.token_seconds *= 3
    browser.clock.pass_by(browser.provider.token_seconds / 3 + 1)
    with pytest.raises(Unauthenticated):
        await sign_in.renew(browser.cookies)


async def test_without_a_refresh_token_one_signs_in_again(browser: Browser) -> None:
    browser.provider.gives_refresh_token = False
    sign_in = await browser.sign_in()
    browser.clock.pass_by(browser.provider.token_seconds + 1)
    with pytest.raises(Unauthenticated, match="sign in again"):
        await sign_in.renew(browser.cookies)


async def test_a_long_token_makes_no_long_session(browser: Browser) -> None:
    browser.provider.token_seconds = 30 * 86_400
    sign_in = await browser.sign_in()
    browser.clock.pass_by(MAX_SESSION_SECONDS + 1)
    with pytest.raises(Unauthenticated, match="expired"):
        sign_in.principal(browser.cookies)


async def test_who_is_locked_out_at_the_provider_is_not_renewed(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    browser.provider.refresh_tokens.clear()
    browser.clock.pass_by(browser.provider.token_seconds + 1)
    with pytest.raises(Unauthenticated, match="has ended at the provider"):
        await sign_in.renew(browser.cookies)


async def test_signing_out_revokes_the_refresh_token_and_puts_no_token_in_an_address(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    url, gone = await sign_in.end(browser.cookies)
    browser.keep(gone)
    assert browser.provider.refresh_tokens == {}
    assert browser.cookies == {}
    assert url is not None
    assert dict(parse_qsl(urlsplit(url).query)) == {"client_id": CLIENT_ID, "post_logout_redirect_uri": f"{BASE}/"}


async def test_one_signs_out_here_while_the_provider_is_away(browser: Browser) -> None:
    await browser.sign_in()
    browser.provider.away = True
    url, gone = await browser.replica().end(browser.cookies)
    assert (url, gone.value) == (None, "")


async def test_a_refresh_token_too_long_for_a_cookie_is_left_out(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.oidc_provider.secrets.token_urlsafe", lambda n=16: "r" * 5_000 if n == 16 else "x" * 43)
    browser.provider.codes.clear()
    sign_in = await browser.sign_in()
    assert sign_in.principal(browser.cookies).user == "alice"
    assert max(len(name) + len(value) for name, value in browser.cookies.items()) < 4_096


async def test_while_the_provider_is_away_nothing_hangs_and_a_session_goes_on(browser: Browser) -> None:
    sign_in = await browser.sign_in()
    browser.provider.away = True
    assert browser.replica().principal(browser.cookies).user == "alice"
    with pytest.raises(IssuerUnavailable):
        await browser.replica().begin("chat")
    browser.clock.pass_by(browser.provider.token_seconds + 1)
    with pytest.raises(IssuerUnavailable):
        await sign_in.renew(browser.cookies)


def test_over_https_the_cookies_are_of_this_host_alone_and_differ_by_installation(browser: Browser) -> None:
    browser.provider.url = "https://login.example"
    names = set()
    for base in ("https://chat.example/a", "https://chat.example/b/"):
        browser.base = base
        cookie = browser.replica().forget_pending("s")
        assert cookie.name.startswith("__Host-")
        names.add(cookie.name)
    assert len(names) == 2
