from pathlib import Path

import pytest
from playwright.async_api import expect

from agent_service.auth.api_keys import create_key
from tests.integration.page.chat import Chat
from tests.integration.page.conftest import OpenChat, Site, running_site
from tests.support.fake_model import FakeModel
from tests.support.fake_script import echo_tokens
from tests.support.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_sessions_are_listed_opened_and_deleted(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    sessions = chat.page.locator("#sessions li")
    await chat.ask("How is a vessel moored?")
    first = chat.page.url
    await chat.ask_anew("Show my notes")
    await expect(sessions).to_have_count(2)
    assert first.partition("#")[2]
    assert chat.page.url != first

    await sessions.filter(has_text="vessel").get_by_role("link").click()
    await expect(chat.page.locator(".question")).to_have_text("You asked: How is a vessel moored?")
    await expect(chat.page.get_by_role("heading", level=1)).to_have_text("How is a vessel moored?")
    assert chat.page.url == first
    await chat.page.go_back()
    await expect(chat.page.locator(".question")).to_contain_text("notes")
    await chat.page.go_forward()

    chat.page.once("dialog", lambda dialog: dialog.dismiss())
    await chat.button("Delete session How is a vessel moored?").click()
    await expect(sessions).to_have_count(2)
    chat.page.once("dialog", lambda dialog: dialog.accept())
    await chat.button("Delete session How is a vessel moored?").click()
    await expect(sessions).to_have_count(1)
    await expect(chat.page.locator("#empty")).to_be_visible()
    await chat.page.goto(first)
    await expect(chat.page.get_by_role("alert")).to_contain_text("This is not there, or it was deleted.")


async def test_a_key_is_asked_for_until_it_is_good_and_kept_for_the_tab(
    admin_url: str, open_chat: OpenChat, tmp_path: Path
) -> None:
    key = create_key(tmp_path, user="alice", tenant="acme", role="user", expires_at=None)
    async with running_site(admin_url, API_KEYS_DIR=str(tmp_path)) as site:
        chat = await open_chat(site.service.url, key="")
        dialog = chat.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("callers it knows")
        await chat.page.get_by_role("textbox", name="API key or token").fill(f"{key[:-4]}AAAA")
        await chat.button("Continue").click()
        await expect(dialog).to_contain_text("The key was refused")

        await chat.page.get_by_role("textbox", name="API key or token").fill(key)
        await chat.page.keyboard.press("Enter")

        await expect(dialog).to_be_hidden()
        await chat.ask("Show my notes")
        await chat.page.reload()
        await expect(chat.answer).to_contain_text("There are no notes.")
        await expect(dialog).to_be_hidden()
        assert key not in chat.page.url


async def test_a_key_that_is_not_given_is_an_error_that_can_be_retried(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url, key="")
    await chat.button("Cancel").click()
    await expect(chat.page.get_by_role("alert")).to_contain_text("You are not signed in.")
    await chat.type("Show my notes")
    await chat.button("Cancel").click()

    await expect(chat.page.locator(".turn").get_by_role("alert")).to_contain_text("You are not signed in.")
    await chat.button("Retry").click()
    await expect(chat.page.get_by_role("dialog")).to_be_visible()


async def test_sessions_are_searched_and_renamed(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    sessions = chat.page.locator("#sessions li")
    await chat.ask("How is a vessel moored?")
    await chat.ask_anew("Show my notes")
    await expect(sessions).to_have_count(2)

    await chat.page.get_by_label("Search sessions").fill("VESSEL")
    await expect(sessions).to_have_count(1)
    await chat.button("Rename session How is a vessel moored?").click()
    name = chat.page.get_by_label("Name of the session")
    await name.fill("dropped")
    await name.press("Escape")
    await expect(chat.button("Rename session How is a vessel moored?")).to_be_focused()
    await chat.page.keyboard.press("Enter")
    await name.fill("Ropes <b>")
    await name.press("Enter")
    await expect(sessions.get_by_role("link")).to_contain_text("Ropes <b>")
    await chat.page.get_by_label("Search sessions").fill("")
    await expect(sessions).to_have_count(2)

    chat.page.once("dialog", lambda dialog: dialog.accept())
    await chat.button("Delete session Ropes <b>").click()
    await expect(sessions).to_have_count(1)
    await expect(sessions.get_by_role("link")).to_be_focused()
    await expect(chat.page.locator(".question")).to_contain_text("notes")


async def test_a_second_tab_follows_what_the_first_one_does(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    first = await open_chat(scripted.service.url)
    await first.ask("one")
    second = Chat(await first.page.context.new_page())
    await second.page.goto(first.page.url)
    await expect(second.questions).to_have_count(1)

    model.script.tokens_until = 3
    await first.type("two")
    await expect(second.answer).to_contain_text("".join(echo_tokens("two", 40)[:3]).strip())
    await expect(second.button("Stop")).to_be_visible()
    model.script.tokens_until = None
    await second.says("".join(echo_tokens("two", 40)))
    await expect(second.questions).to_have_count(2)

    await first.button("Rename session one").click()
    await first.page.get_by_label("Name of the session").fill("uno")
    await first.page.keyboard.press("Enter")
    await expect(second.page.get_by_role("heading", level=1)).to_have_text("uno")


async def test_signing_out_forgets_the_key_and_the_conversation(offline: Site, open_chat: OpenChat) -> None:
    key = bearer("leaves")["Authorization"].split()[1]
    chat = await open_chat(offline.service.url, key="")
    await chat.page.get_by_role("textbox", name="API key or token").fill(key)
    await chat.button("Continue").click()
    await chat.ask("Show my notes")

    await chat.button("Sign out").click()

    await expect(chat.page.get_by_role("dialog")).to_contain_text("callers it knows")
    await expect(chat.page.locator(".turn, #sessions li")).to_have_count(0)
    assert await chat.page.evaluate("sessionStorage.length") == 0
