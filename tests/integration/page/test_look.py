import re
from typing import Literal

import pytest
from playwright.async_api import expect

from tests.integration.page.chat import Chat
from tests.integration.page.conftest import OpenChat, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

COLOURS = """(nodes) => nodes.map((node) => {
    const clear = "rgba(0, 0, 0, 0)";
    let below = node;
    while (getComputedStyle(below).backgroundColor === clear) below = below.parentElement;
    return [node.textContent, [getComputedStyle(node).color, getComputedStyle(below).backgroundColor]];
})"""


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


async def test_every_text_can_be_read_in_either_scheme(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    await chat.ask("Remember that this is a note")
    for scheme in SCHEMES:
        await chat.page.emulate_media(color_scheme=scheme)
        await assert_readable(chat, scheme)


async def assert_readable(chat: Chat, scheme: Scheme) -> None:
    texts = ".question, .answer p, .answer cite, .trail, .tool .args, .sources .muted, .usage, .usage b, .card p, .card pre, \
        #sessions small, .foot, #status, button:not(.quiet):not([hidden]):enabled"
    found = await chat.page.locator(texts).evaluate_all(COLOURS)
    assert len(found) > 15
    assert [(text, colours) for text, colours in found if contrast(*colours) < 4.5] == []
    background = await chat.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) < 0.2) == (scheme == "dark")


async def test_at_360_pixels_nothing_is_cut_off_and_the_list_opens_and_closes(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url, viewport={"width": 360, "height": 640})
    await chat.ask("What did we spend per day, and how many tokens?")
    await chat.ask("Remember that this is a note")
    new = chat.button("New session")

    assert await chat.page.evaluate("document.documentElement.scrollWidth") == 360
    assert await chat.page.evaluate("document.querySelector('#log').scrollWidth") <= 360
    await expect(new).to_be_hidden()
    await chat.button("Sessions").click()
    await expect(new).to_be_focused()
    await chat.page.keyboard.press("Escape")
    await expect(new).to_be_hidden()
    await expect(chat.button("Sessions")).to_be_focused()


async def test_the_keyboard_is_enough(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    question = chat.page.get_by_label("Question")
    await expect(question).to_be_focused()
    await chat.page.keyboard.type("Remember that")
    await chat.page.keyboard.press("Shift+Enter")
    await chat.page.keyboard.type("keys are enough")
    await expect(question).to_have_value("Remember that\nkeys are enough")
    await chat.page.keyboard.press("Enter")

    await expect(chat.decision).to_be_focused()
    await tab_to(chat, "Reject")
    await chat.page.keyboard.press("Enter")
    await expect(chat.page.get_by_label("Reason, for the agent (optional)")).to_be_focused()
    await chat.page.keyboard.press("Escape")
    await expect(chat.button("Reject")).to_be_focused()
    await tab_to(chat, "Approve", back=True)
    await chat.page.keyboard.press("Enter")
    await expect(chat.answer).to_contain_text("keys are enough")

    await expect(question).to_be_focused()
    await tab_to(chat, "Good answer", back=True)
    assert await chat.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await chat.page.keyboard.press("Space")
    await expect(chat.button("Good answer")).to_have_attribute("aria-pressed", "true")


async def tab_to(chat: Chat, name: str, *, back: bool = False) -> None:
    """Goes on with Tab until the focus is on the button of this name."""
    for _ in range(20):
        await chat.page.keyboard.press("Shift+Tab" if back else "Tab")
        if await chat.page.evaluate("(n => n.ariaLabel ?? n.textContent)(document.activeElement)") == name:
            return
    pytest.fail(f"Tab does not reach {name}")
