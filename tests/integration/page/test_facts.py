"""What an installation says of itself on the page."""

import json
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.integration.page.conftest import OpenChat, running_site

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME = "Harbour </title><script>window.hit=1</script>"
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" fill="red"/></svg>'
GRAPHS = {"graphs": {"first": "tests.support.graphs:plain", "second": "tests.integration.page.graphs:build"}}


async def test_name_logo_welcome_and_examples_are_settings_and_each_graph_is_there_to_choose(
    admin_url: str, open_chat: OpenChat, tmp_path: Path
) -> None:
    (tmp_path / "logo.svg").write_text(LOGO)
    (tmp_path / "langgraph.json").write_text(json.dumps(GRAPHS))
    env = {
        "LANGGRAPH_CONFIG": str(tmp_path / "langgraph.json"),
        "PAGE_NAME": NAME,
        "PAGE_LOGO": str(tmp_path / "logo.svg"),
        "PAGE_WELCOME": 'Ask "me" <b>anything</b>.',
        "PAGE_EXAMPLES": json.dumps({"second": ["which one?"]}),
    }
    async with running_site(admin_url, **env) as site:
        chat = await open_chat(site.service.url)
        empty = chat.page.locator("#empty")
        assert await chat.page.title() == NAME
        await expect(chat.page.locator("#name")).to_have_text(NAME)
        await expect(empty).to_contain_text('Ask "me" <b>anything</b>.')
        await expect(empty.get_by_role("button")).to_have_count(0)
        assert await chat.page.locator("#logo").evaluate("async (image) => (await image.decode(), image.naturalWidth)") > 0
        assert await chat.page.evaluate("window.hit") is None

        await chat.page.get_by_label("Agent").select_option("second")
        await empty.get_by_role("button", name="which one?").click()
        await expect(chat.decision).to_contain_text("which colour?")
        await expect(chat.page.get_by_label("Agent")).to_be_disabled()
        await expect(chat.page.locator("#sessions small")).to_contain_text("second")
        await chat.page.reload()
        await expect(chat.page.get_by_label("Agent")).to_have_value("second")
        await chat.button("New session").click()
        await expect(chat.page.get_by_label("Agent")).to_be_enabled()
