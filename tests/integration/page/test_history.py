"""Long sessions, and what a run tells beside its answer, as the service would write them."""

import json
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.async_api import Route, expect

from tests.attack.test_model_answer import play, sse
from tests.integration.page.conftest import OpenChat, Site
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script

pytestmark = pytest.mark.asyncio(loop_scope="session")

SESSION = "long"


def history(turns: int) -> str:
    messages: list[dict[str, object]] = []
    for at in range(turns):
        run = {"run_id": str(uuid4()), "outcome": "completed", "feedback": None}
        messages += [
            {**run, "role": "user", "content": f"question {at}"},
            {**run, "role": "assistant", "content": f"*answer* {at}"},
        ]
    return json.dumps({"messages": messages, "active_run_id": None, "interrupted": None})


async def test_a_session_of_a_thousand_messages_opens_with_its_end_and_brings_the_rest_on_request(
    scripted: Site, open_chat: OpenChat
) -> None:
    chat = await open_chat(scripted.service.url)
    body = history(500)

    async def fulfill(route: Route) -> None:
        await route.fulfill(body=body, content_type="application/json")

    await chat.page.route("**/sessions/*/messages", fulfill)
    await chat.page.goto(f"{scripted.service.url}/#{SESSION}")
    turns = chat.page.locator(".turn")

    await expect(turns).to_have_count(20)
    await chat.says("answer 499")
    await expect(chat.answer).to_be_in_viewport()
    first = chat.page.locator(".turn", has_text="question 480")
    await first.scroll_into_view_if_needed()
    await chat.button("Show earlier turns (480)").click()
    await expect(turns).to_have_count(40)
    await expect(turns.first).to_contain_text("question 460")
    await expect(first).to_be_in_viewport()


async def test_a_session_longer_than_a_page_of_the_api_is_read_to_its_begin(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    pages: dict[str, tuple[int, str | None]] = {"": (25, "last"), "before=last": (10, "first"), "before=first": (3, None)}
    asked: list[str] = []

    async def fulfill(route: Route) -> None:
        query = urlsplit(route.request.url).query
        asked.append(query)
        count, earlier = pages[query]
        await route.fulfill(json={**json.loads(history(count)), "earlier": earlier})

    await chat.page.route("**/sessions/*/messages*", fulfill)
    await chat.page.goto(f"{scripted.service.url}/#{SESSION}")
    turns = chat.page.locator(".turn")
    await expect(turns).to_have_count(20)
    await chat.button("Show earlier turns (5 and more)").click()
    await expect(turns).to_have_count(25)
    await chat.button("Show earlier turns").click()
    await expect(turns).to_have_count(35)
    await chat.button("Show earlier turns").click()
    await expect(turns).to_have_count(38)
    await expect(chat.page.locator("button.earlier")).to_be_hidden()
    assert asked == ["", "before=last", "before=first"]


async def test_progress_reasoning_and_branches_are_shown_while_a_run_goes_on(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script = Script(tokens=["ok"])
    chat = await open_chat(scripted.service.url)
    events: list[tuple[str, object]] = [
        ("run", {"run_id": "r", "attempt": 1}),
        ("of_the_future", {"any": 1}),
        ("custom", {"progress": 40, "message": "page 4 of 10"}),
        *[("custom", {"rows": at}) for at in range(60)],
        ("custom", {"text": "x" * 60_000}),
        ("reasoning", {"source": "a#1", "text": "Let me think."}),
        ("node", "not as this page knows it"),
        *[("partial", {"source": "critic#1", "text": "It is wrong. "})] * 300,
        ("partial", {"source": "writer#1", "text": "Once."}),
        ("source", {"source": "writer#1"}),
        ("", "All of it."),
    ]
    await play(chat, sse(*events))
    await chat.type("go")

    await chat.says("All of it.")
    assert await chat.page.get_by_label("Progress").evaluate("bar => bar.value") == pytest.approx(0.4)
    await expect(chat.page.locator(".progress")).to_contain_text("page 4 of 10")
    reports = chat.page.locator(".folded").filter(has_text="Reports of the graph")
    await expect(reports.locator("pre")).to_have_count(50)
    assert len(await reports.inner_html()) < 50_000
    await expect(chat.page.locator(".folded").filter(has_text="Reasoning")).to_contain_text("Let me think.")
    await expect(chat.page.locator(".branch")).to_have_count(1)
    await expect(chat.page.locator(".branch b")).to_have_text("critic")
    assert len(await chat.page.locator(".branch p").inner_text()) <= 2_000
