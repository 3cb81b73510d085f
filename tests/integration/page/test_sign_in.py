"""Sign-in to the page in a real browser, at a provider on loopback."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from agent_service.auth.oidc_provider import RETRY_SECONDS
from agent_service.auth.sign_in import SignIn
from tests.integration.page.axe import violations
from tests.integration.page.chat import Chat
from tests.integration.page.conftest import OpenChat, running_site
from tests.support.clock import Clock
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcServer, oidc_server
from tests.support.ports import free_port
from tests.support.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")

STORES = "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie, location.href])"


@dataclass
class Signing:
    """A service whose clock moves when told to, and its provider."""

    url: str
    sign_in: SignIn
    provider: OidcServer
    clock: Clock = field(default_factory=lambda: Clock(time.time()))

    def expire(self) -> None:
        """Ends every session that there is, not those that begin after."""
        self.clock.now = time.time() + self.provider.token_seconds + 1
        self.provider.token_seconds += 600


@pytest_asyncio.fixture(loop_scope="session")
async def signing(admin_url: str) -> AsyncIterator[Signing]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with oidc_server(f"{url}/auth/callback") as provider:
        env = {"OIDC_ISSUER": provider.url, "OIDC_CLIENT_ID": CLIENT_ID, "OIDC_CLIENT_SECRET": CLIENT_SECRET}
        async with running_site(admin_url, **env, PUBLIC_URL=url, PORT=str(port)) as site:
            sign_in = site.service.resources.authenticator.sign_in
            assert sign_in is not None
            signing = Signing(url, sign_in, provider)
            sign_in.clock = sign_in.provider.clock = signing.clock
            yield signing


def dialog(chat: Chat) -> Locator:
    return chat.page.get_by_role("dialog")


async def sign_in(chat: Chat, choice: str = "Sign in as alice") -> None:
    await dialog(chat).get_by_role("button", name="Sign in").click()
    await chat.page.get_by_role("button", name=choice).click()


async def signed_in(signing: Signing, open_chat: OpenChat) -> Chat:
    chat = await open_chat(signing.url, key="")
    await sign_in(chat)
    await expect(chat.button("Sign out")).to_be_visible()
    return chat


async def test_one_signs_in_chats_and_is_known_after_a_reload_and_no_script_sees_a_token(
    signing: Signing, open_chat: OpenChat
) -> None:
    chat = await open_chat(signing.url, key="")
    await expect(dialog(chat)).to_contain_text("answers only to people it knows")
    await sign_in(chat)
    await chat.ask("Show my notes")
    await chat.page.reload()
    await expect(chat.answer).to_contain_text("There are no notes.")
    await expect(dialog(chat)).to_be_hidden()
    kept = await chat.page.evaluate(STORES)
    assert [each for each in (*signing.provider.refresh_tokens, "eyJ", "code=", "state=") if each in kept] == []
    cookies = {each["name"]: each for each in await chat.page.context.cookies(signing.url)}
    (session,) = [each for name, each in cookies.items() if name.startswith("slipway")]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Strict")


async def test_a_session_that_has_expired_is_renewed_and_nobody_notices(signing: Signing, open_chat: OpenChat) -> None:
    chat = await signed_in(signing, open_chat)
    signing.expire()
    await chat.ask("Show my notes")
    await expect(dialog(chat)).to_be_hidden()
    assert signing.provider.refreshes == 1


async def test_tabs_that_find_it_expired_together_spend_one_refresh_token(signing: Signing, open_chat: OpenChat) -> None:
    """The provider takes a second use of one for theft, and would end the session."""
    chat = await signed_in(signing, open_chat)
    await chat.ask("Show my notes")
    other = Chat(await chat.page.context.new_page())
    await other.page.goto(chat.page.url)
    await expect(other.answer).to_contain_text("There are no notes.")
    signing.expire()
    signing.provider.delay = 0.3
    await asyncio.gather(chat.page.reload(), other.page.reload())
    for tab in (chat, other):
        await expect(tab.answer).to_contain_text("There are no notes.")
        await expect(dialog(tab)).to_be_hidden()
    assert signing.provider.refreshes == 1


async def test_a_session_that_the_provider_has_ended_asks_again_and_keeps_what_was_typed(
    signing: Signing, open_chat: OpenChat
) -> None:
    chat = await signed_in(signing, open_chat)
    await chat.ask("Show my notes")
    session = chat.page.url
    signing.expire()
    signing.provider.refresh_tokens.clear()
    await chat.type("And what of the weather?")
    await expect(dialog(chat)).to_contain_text("Your sign-in has ended.")
    await dialog(chat).get_by_role("button", name="Sign in").click()  # the provider still knows this browser
    await expect(chat.page.get_by_label("Question")).to_have_value("And what of the weather?")
    await expect(chat.answer).to_contain_text("There are no notes.")
    assert chat.page.url == session


async def test_signing_out_ends_it_in_every_tab_and_at_the_provider(signing: Signing, open_chat: OpenChat) -> None:
    chat = await signed_in(signing, open_chat)
    await chat.ask("Show my notes")
    other = Chat(await chat.page.context.new_page())
    await other.page.goto(chat.page.url)
    await expect(other.answer).to_contain_text("There are no notes.")
    await chat.button("Sign out").click()
    for tab in (chat, other):
        await expect(dialog(tab)).to_contain_text("answers only to people it knows")
        await expect(tab.page.locator(".turn, #sessions li")).to_have_count(0)
    assert signing.provider.asked.count("/end") == 1
    assert (signing.provider.signed_in, signing.provider.refresh_tokens) == (set(), {})
    await sign_in(chat)  # by the provider's own page again, and the other tab goes on too
    await expect(chat.button("Sign out")).to_be_visible()
    await expect(dialog(other)).to_be_hidden()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("code=stolen&state=made-up", "began in another browser"),
        ("error=access_denied", "began in another browser"),
        ("", "began in another browser"),
    ],
)
async def test_an_answer_with_a_wrong_state_is_refused_in_plain_words(
    signing: Signing, open_chat: OpenChat, query: str, words: str
) -> None:
    chat = await open_chat(f"{signing.url}/auth/callback?{query}", key="")
    await expect(dialog(chat)).to_contain_text(words)
    assert chat.page.url == f"{signing.url}/"
    await sign_in(chat)
    await expect(chat.button("Sign out")).to_be_visible()


async def test_who_declines_is_told_so_and_may_use_a_key_instead(signing: Signing, open_chat: OpenChat) -> None:
    chat = await open_chat(signing.url, key="")
    await sign_in(chat, "Decline")
    await expect(dialog(chat)).to_contain_text("The sign-in was declined.")
    await chat.button("Use an API key").click()
    await chat.page.get_by_role("textbox", name="API key or token").fill(bearer("a-key")["Authorization"].split()[1])
    await chat.button("Continue").click()
    await chat.ask("Show my notes")


async def test_a_provider_that_is_away_is_told_in_plain_words_and_tried_again(signing: Signing, open_chat: OpenChat) -> None:
    signing.provider.away = True
    chat = await open_chat(signing.url, key="")
    await dialog(chat).get_by_role("button", name="Sign in").click()
    await expect(dialog(chat)).to_contain_text("Your sign-in cannot be checked right now. Try again in a moment.")
    assert not await chat.page.get_by_text("issuer_unavailable").count()
    signing.provider.away = False
    signing.clock.pass_by(RETRY_SECONDS)
    await sign_in(chat)
    await expect(chat.button("Sign out")).to_be_visible()


async def test_the_page_of_budgets_signs_in_and_comes_back_to_itself(signing: Signing, open_chat: OpenChat) -> None:
    chat = await open_chat(f"{signing.url}/spend", key="")
    await sign_in(chat)
    await expect(chat.page.locator("#status")).to_contain_text("until now")
    assert chat.page.url == f"{signing.url}/spend"


async def test_signing_out_on_the_page_of_budgets_ends_the_session_of_the_chat_too(signing: Signing, open_chat: OpenChat) -> None:
    chat = await signed_in(signing, open_chat)
    spend = Chat(await chat.page.context.new_page())
    await spend.page.goto(f"{signing.url}/spend")
    await expect(spend.page.locator("#status")).to_contain_text("until now")
    await spend.button("Sign out").click()
    for tab in (chat, spend):
        await expect(dialog(tab)).to_contain_text("answers only to people it knows")
    assert (signing.provider.signed_in, signing.provider.refresh_tokens) == (set(), {})


async def test_the_dialogs_keep_the_rules_of_wcag_on_both_pages(signing: Signing, open_chat: OpenChat) -> None:
    for path in ("/", "/spend"):
        chat = await open_chat(signing.url + path, key="")
        await expect(chat.page.get_by_role("heading", name="Sign in")).to_be_visible()
        await expect(dialog(chat).get_by_role("button", name="Sign in")).to_be_focused()
        assert await violations(chat.page) == []
        await chat.button("Use an API key").click()
        await expect(chat.page.get_by_label("API key or token", exact=True)).to_be_focused()
        assert await violations(chat.page) == []


@asynccontextmanager
async def foreign_provider() -> AsyncIterator[str]:
    """oidc-provider-mock, which is made of Authlib and Flask; its address. (It declines without `state`, which is refused.)"""
    port = free_port()
    program = Path(sys.executable).with_name("oidc-provider-mock")
    process = await asyncio.create_subprocess_exec(
        program, f"--port={port}", "--user=alice", "--require-registration=true", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(30):
            while not await answers(client):
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/.well-known/openid-configuration")).is_success
    except httpx.TransportError:
        return False


async def test_one_signs_in_at_a_provider_that_others_wrote(admin_url: str, open_chat: OpenChat) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    async with foreign_provider() as issuer, httpx.AsyncClient(base_url=issuer) as provider:
        client = (await provider.post("/oauth2/clients", json={"redirect_uris": [f"{url}/auth/callback"]})).json()
        names = {"OIDC_CLIENT_ID": client["client_id"], "OIDC_CLIENT_SECRET": client["client_secret"]}
        async with running_site(admin_url, OIDC_ISSUER=issuer, **names, PUBLIC_URL=url, PORT=str(port)):
            chat = await open_chat(url, key="")
            await sign_in(chat, "alice")
            await chat.ask("Show my notes")
            await chat.page.reload()
            await expect(chat.answer).to_contain_text("There are no notes.")
            await expect(chat.button("Sign out")).to_be_visible()
