"""Agent Chat UI as a person uses it."""

import asyncio
import re
from urllib.parse import parse_qs, urlparse

import pytest
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Page, expect

from tests.conformance.langgraph.sites import script
from tests.langgraph_js.conftest import OpenPage, Stage

pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]

ANSWER = "It is so."


async def chat(open_page: OpenPage, stage: Stage) -> Page:
    return await open_page("agent_chat", apiUrl=stage.url, assistantId="agent")


async def ask(page: Page, question: str) -> None:
    await page.get_by_placeholder("Type your message...").fill(question)
    await page.keyboard.press("Enter")


async def test_the_form_asks_for_a_server_and_then_it_chats(stage: Stage, open_page: OpenPage) -> None:
    page = await open_page("agent_chat")
    await page.locator("#apiUrl").fill(stage.url)
    await page.locator("#assistantId").fill("agent")
    await page.get_by_role("button", name="Continue").click()
    await ask(page, "hello there")
    await expect(page.get_by_text(ANSWER)).to_be_visible()
    await ask(page, "and again")
    await expect(page.get_by_text(ANSWER)).to_have_count(2)


async def test_a_tool_call_and_its_result_are_seen(stage: Stage, open_page: OpenPage) -> None:
    page = await chat(open_page, stage)
    await ask(page, "weather in Paris?")
    await expect(page.get_by_role("heading", name=re.compile("^weather"))).to_be_visible()
    await expect(page.get_by_role("cell", name="Paris", exact=True)).to_be_visible()
    await expect(page.get_by_text("It is sunny in Paris.")).to_be_visible()
    await expect(page.get_by_text(ANSWER)).to_be_visible()


async def test_an_interrupt_is_accepted(stage: Stage, open_page: OpenPage) -> None:
    page = await chat(open_page, stage)
    await ask(page, "form please")
    await expect(page.get_by_role("textbox").and_(page.get_by_text("Paris"))).to_be_visible()
    await page.get_by_role("button", name="Accept").click()
    await expect(page.get_by_text("Decided: accept.")).to_be_visible()
    await expect(page.get_by_role("button", name="Accept")).to_have_count(0)


async def test_a_conversation_is_there_after_a_reload(stage: Stage, open_page: OpenPage) -> None:
    page = await chat(open_page, stage)
    await ask(page, "remember me")
    await expect(page.get_by_text(ANSWER)).to_be_visible()
    await page.reload()
    await expect(page.locator("p", has_text="remember me").last).to_be_visible()
    await expect(page.get_by_text(ANSWER)).to_be_visible()


async def test_threads_are_listed_by_their_first_question_and_opened(stage: Stage, open_page: OpenPage) -> None:
    page = await chat(open_page, stage)
    await ask(page, "the first conversation")
    await expect(page.get_by_text(ANSWER)).to_be_visible()
    await page.goto(f"{stage.pages['agent_chat']}/?apiUrl={stage.url}&assistantId=agent&chatHistoryOpen=true")
    await page.get_by_role("button", name="the first conversation").first.click()
    await expect(page.get_by_text(ANSWER)).to_be_visible()


async def test_an_answer_is_made_anew(stage: Stage, open_page: OpenPage) -> None:
    page = await chat(open_page, stage)
    await ask(page, "hello")
    await expect(page.get_by_text(ANSWER)).to_be_visible()
    stage.model.script = script(tokens=["Not ", "so."])
    await page.get_by_text(ANSWER).hover()
    await page.get_by_role("button", name="Refresh").click()
    await expect(page.get_by_text("Not so.")).to_be_visible()
    await expect(page.get_by_text(ANSWER)).to_have_count(0)
    await expect(page.get_by_text("2 / 2")).to_be_visible()


async def test_cancel_ends_the_run(stage: Stage, open_page: OpenPage, sdk: LangGraphClient) -> None:
    stage.model.script = script(tokens=["word "] * 1000, tokens_per_second=20)
    page = await chat(open_page, stage)
    await ask(page, "hello")
    await expect(page.get_by_text("word word")).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    thread = parse_qs(urlparse(page.url).query)["threadId"][0]
    async with asyncio.timeout(15):
        while (await sdk.threads.get(thread))["status"] == "busy":
            await asyncio.sleep(0.1)
    assert [run["status"] for run in await sdk.runs.list(thread)] == ["interrupted"]
