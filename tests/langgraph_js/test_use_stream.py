"""The example's chat in Chromium: on useStream as most pages have it, and on the newest, which speaks protocol version 2."""

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Locator, Page, Route, expect

from tests.conformance.langgraph.sites import script
from tests.langgraph_js.conftest import OpenPage, Stage

pytestmark = [
    pytest.mark.clients,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("name", ["use_stream", "use_stream_v2"]),
]

WORDS = [f"word{number} " for number in range(40)]

WATCH_ANSWER = """() => {
    window.lengths = new Set();
    new MutationObserver(() => window.lengths.add(document.querySelector("li.ai:last-child")?.textContent.length ?? 0))
        .observe(document.querySelector("#root"), {childList: true, subtree: true, characterData: true});
}"""


async def ask(page: Page, question: str) -> None:
    await page.get_by_label("Question").fill(question)
    await page.keyboard.press("Enter")


def answer(page: Page) -> Locator:
    return page.locator("li.ai").last


async def says(page: Page, text: str) -> None:
    """Waits for the end of the run, with that answer."""
    await expect(page.locator("ol")).to_have_attribute("aria-busy", "false")
    await expect(answer(page)).to_have_text(text.strip())


async def thread(page: Page) -> str:
    return parse_qs(urlparse(page.url).query)["thread"][0]


def slowly(stage: Stage) -> None:
    """The model says 40 words in 2 s."""
    stage.model.script = script(tokens=WORDS, tokens_per_second=20)


async def test_an_answer_grows_and_the_next_follows(stage: Stage, open_page: OpenPage, name: str) -> None:
    slowly(stage)
    page = await open_page(name, api=stage.url)
    await page.evaluate(WATCH_ANSWER)
    await ask(page, "hello")
    await expect(answer(page)).to_contain_text("word30")
    await says(page, "".join(WORDS))
    assert await page.evaluate("window.lengths.size") > 10
    await ask(page, "again")
    await expect(page.locator("li")).to_have_count(4)
    await says(page, "".join(WORDS))
    assert await page.locator("li.human").all_inner_texts() == ["hello", "again"]


async def test_a_tool_call_and_its_result_are_seen(stage: Stage, open_page: OpenPage, name: str) -> None:
    page = await open_page(name, api=stage.url)
    await ask(page, "weather")
    await expect(page.locator(".call")).to_have_text('weather({"city":"Paris"})')
    await expect(page.locator("li.tool")).to_have_text("It is sunny in Paris.")
    await says(page, "It is so.")


async def test_a_person_decides(stage: Stage, open_page: OpenPage, sdk: LangGraphClient, name: str) -> None:
    page = await open_page(name, api=stage.url)
    await ask(page, "approve")
    await expect(page.get_by_role("region", name="Decision needed")).to_contain_text("Go on?")
    await page.get_by_role("button", name="Approve").click()
    await says(page, "It is so.")
    await expect(page.get_by_role("region", name="Decision needed")).to_have_count(0)
    values: Any = (await sdk.threads.get_state(await thread(page)))["values"]
    assert values["note"] == "decided: yes"


async def test_a_call_of_a_tool_is_rejected(stage: Stage, open_page: OpenPage, name: str) -> None:
    page = await open_page(name, api=stage.url)
    await ask(page, "book")
    await expect(page.get_by_role("region", name="Decision needed")).to_contain_text("Paris")
    await page.get_by_role("button", name="Reject").click()
    await says(page, "Booking: reject.")


async def test_a_question_that_waits_is_there_after_a_reload(stage: Stage, open_page: OpenPage, name: str) -> None:
    page = await open_page(name, api=stage.url)
    await ask(page, "approve")
    await expect(page.get_by_role("region", name="Decision needed")).to_contain_text("Go on?")
    clicked = asyncio.Event()

    async def hold(route: Route) -> None:
        await clicked.wait()
        await route.continue_()

    await page.route("**/stream/events", hold)  # a person may be faster than the stream that the page opens behind its state
    await page.reload()
    await page.get_by_role("button", name="Approve").click()
    clicked.set()
    await says(page, "It is so.")


async def test_a_reload_in_mid_answer_loses_and_doubles_nothing(stage: Stage, open_page: OpenPage, name: str) -> None:
    slowly(stage)
    page = await open_page(name, api=stage.url)
    await ask(page, "hello")
    await expect(answer(page)).to_contain_text("word5")
    await page.reload()
    await expect(answer(page)).to_contain_text("word39")
    await says(page, "".join(WORDS))
    await expect(page.locator("li")).to_have_count(2)
    stage.model.script = script()
    await ask(page, "again")
    await says(page, "It is so.")
    await expect(page.locator("li")).to_have_count(4)


async def test_stop_ends_the_run(stage: Stage, open_page: OpenPage, sdk: LangGraphClient, name: str) -> None:
    stage.model.script = script(tokens=WORDS * 20, tokens_per_second=20)
    page = await open_page(name, api=stage.url)
    await ask(page, "hello")
    await expect(answer(page)).to_contain_text("word5")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    async with asyncio.timeout(15):
        while (await sdk.threads.get(await thread(page)))["status"] == "busy":
            await asyncio.sleep(0.1)
    (run,) = await sdk.runs.list(await thread(page))
    assert run["status"] == "interrupted"


async def test_a_failure_is_told(stage: Stage, open_page: OpenPage, name: str) -> None:
    page = await open_page(name, api=stage.url)
    await ask(page, "fail")
    await expect(page.get_by_role("alert")).to_be_visible()
