import re

import psycopg
import pytest
from playwright.async_api import Route, expect

from agent_service.runs.prune import Retention, prune
from tests.integration.page.chat import Chat
from tests.integration.page.conftest import OpenChat, Site
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall, echo_tokens

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "gpt-4o"
"""Faults name it, so that the health check of the endpoint does not take them."""


async def test_the_answer_grows_token_by_token(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    model.script.tokens_until = 1
    await chat.type("grow")

    for count in (1, 2, 3, 20):
        model.script.tokens_until = count
        await chat.says("".join(echo_tokens("grow", 40)[:count]))
        await expect(chat.answer).to_have_attribute("aria-busy", "true")
    model.script.tokens_until = None
    await chat.says("".join(echo_tokens("grow", 40)))


async def test_nodes_and_tools_are_shown_with_arguments_duration_and_output(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    calls = [ToolCall(name="lookup", arguments={"query": "anchor"})]
    model.script = Script(tokens=["Done."], tool_calls=calls, preface=["Let me look."])
    chat = await open_chat(scripted.service.url)

    await chat.ask("use it")

    await expect(chat.page.get_by_label("Steps")).to_have_text(re.compile(r"model .2 [\d.]+ s.*tools"))
    tool = chat.page.locator(".tool")
    await expect(tool.locator("summary")).to_have_text(re.compile(r"lookup\s*ok\s*query: anchor\s*\d+\.\d\d s"))
    await tool.locator("summary").click()
    await expect(tool.get_by_text("found anchor")).to_be_visible()
    await chat.says("Let me look.Done.")
    await expect(chat.page.locator(".usage")).to_contain_text("2 model calls")


async def test_citations_and_sql_of_the_default_graph_are_shown(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)

    await chat.ask("How is a vessel moored?")
    await expect(chat.page.locator(".sources li")).to_have_text(re.compile(r"Harbour manual › Mooring — .*harbour\.md"))
    await expect(chat.answer.locator("blockquote")).to_contain_text("two ropes")
    await expect(chat.answer.locator("cite")).to_have_text("[Harbour manual › Mooring]")

    await chat.ask("How many runs were there today?")
    await expect(chat.page.get_by_label("SQL")).to_contain_text("FROM slipway_data.runs")
    await expect(chat.answer.get_by_role("columnheader", name="outcome")).to_be_visible()

    await chat.ask("Run this SQL: SELECT * FROM no_such_table")
    await expect(chat.page.locator(".tool summary").last).to_contain_text("error")


async def test_a_citation_is_marked_with_or_without_a_section(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    model.script = Script(tokens=["See [Authentication] and [Manual › Keys], not [1] or ", "[Title](elsewhere)."])
    chat = await open_chat(scripted.service.url)
    await chat.ask("cite")
    await expect(chat.answer.locator("cite")).to_have_text(["[Authentication]", "[Manual › Keys]"])


async def test_an_empty_session_offers_questions_that_are_asked_with_a_click(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await expect(chat.page.locator("#empty").get_by_role("button")).to_have_count(3)
    await chat.page.locator("#empty").get_by_role("button", name="Save a note").click()
    await expect(chat.decision.locator("pre")).to_contain_text("the staging cluster is upgraded")
    await expect(chat.page.locator("#empty")).to_have_count(0)


async def test_a_turn_that_is_stopped_ends_as_cancelled_and_the_next_one_works(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script.faults = [Fault(kind="hang", model=MODEL, after_tokens=10)]
    chat = await open_chat(scripted.service.url)
    await chat.type("stop me")
    await chat.says("".join(echo_tokens("stop me", 10)))

    await chat.button("Stop").click()

    await expect(chat.page.locator(".usage")).to_contain_text("stopped")
    await expect(chat.page.get_by_label("Question")).to_be_focused()
    await chat.says("".join(echo_tokens("stop me", 10)))
    await chat.ask("go on")
    await chat.says("".join(echo_tokens("go on", 40)))


async def test_an_error_is_told_in_plain_words_and_a_retryable_one_can_be_retried(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script.faults = [Fault(kind="bad_request", model=MODEL)]
    chat = await open_chat(scripted.service.url)

    await chat.ask("refused")
    await expect(chat.page.get_by_role("alert")).to_have_text(
        "The language model refused this request. Asking in another way may help."
    )
    await expect(chat.button("Retry")).to_have_count(0)

    model.script.faults = [Fault(kind="server_error", model=MODEL)]
    await chat.ask("again")
    await expect(chat.page.get_by_role("alert").last).to_contain_text("does not answer right now")
    await expect(chat.page.get_by_role("alert").last).not_to_contain_text("model_unavailable")
    await chat.button("Retry").click()
    await chat.says("".join(echo_tokens("again", 40)))


async def test_a_thumb_and_its_comment_are_stored_and_shown_again(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    run_id = (await chat.page.locator(".usage code").get_attribute("title") or "").removeprefix("Run ")

    await chat.button("Bad answer").click()
    await chat.page.get_by_label("Anything to add? (optional)").fill("which ropes?")
    await chat.button("Send comment").click()
    await expect(chat.page.get_by_text("Comment sent.")).to_be_visible()

    assert feedback(offline, run_id) == (0, "which ropes?")
    await chat.page.reload()
    await expect(chat.button("Bad answer")).to_have_attribute("aria-pressed", "true")
    await chat.button("Good answer").click()
    await expect(chat.button("Good answer")).to_have_attribute("aria-pressed", "true")
    assert feedback(offline, run_id) == (1, None)


def feedback(site: Site, run_id: str) -> object:
    with psycopg.connect(site.database_url) as conn:
        return conn.execute("SELECT score, comment FROM slipway.feedback WHERE run_id = %s", (run_id,)).fetchone()


async def test_steps_and_cost_of_an_old_turn_are_read_again(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    shown = await chat.page.locator("#log").inner_text()

    await chat.page.reload()
    await chat.button("Steps and cost").click()

    await expect(chat.page.locator(".usage")).to_contain_text("3 model calls")
    await expect(chat.page.locator("#log")).to_have_text(shown, use_inner_text=True)


async def test_an_old_turn_whose_events_are_gone_keeps_its_answer_and_says_so(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    chat = await open_chat(scripted.service.url)
    await chat.ask("old")
    await expire_events(scripted)

    await chat.page.reload()
    await chat.button("Steps and cost").click()

    await expect(chat.page.get_by_text("The steps of this turn are no longer kept.")).to_be_visible()
    await expect(chat.page.locator(".usage")).to_contain_text("1 model call")
    await chat.says("".join(echo_tokens("old", model.script.token_count)))


async def expire_events(site: Site) -> None:
    with psycopg.connect(site.database_url) as conn:
        conn.execute("UPDATE slipway.runs SET finished_at = finished_at - interval '2 hours' WHERE finished_at IS NOT NULL")
    pruned = await prune(site.service.resources.pool, Retention(event_hours=1, session_days=0))
    assert pruned
    assert pruned.runs > 0


HOSTILE = (
    '<img src=x onerror="window.hit=1"><script>window.hit=1</script>[x](javascript:window.hit=1)</pre>"><svg onload=window.hit=1>'
)


async def test_markup_in_question_answer_and_tool_output_stays_text(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script = Script(
        tokens=[HOSTILE, f"\n\n# {HOSTILE}\n\n| a |\n|---|\n| {HOSTILE} |\n\n- {HOSTILE}\n\n```{HOSTILE}\n{HOSTILE}\n```"],
        tool_calls=[ToolCall(name="lookup", arguments={"query": HOSTILE})],
    )
    chat = await open_chat(scripted.service.url)
    await chat.ask(HOSTILE)
    await chat.page.locator(".tool summary").click()

    await expect(chat.page.locator(".question")).to_contain_text(HOSTILE)
    await expect(chat.page.locator(".tool pre").last).to_have_text(f"found {HOSTILE}")
    await expect(chat.answer.locator("p").first).to_contain_text("<img src=x onerror=")
    await expect(chat.page.locator("#sessions a")).to_contain_text("<img")
    await assert_no_markup(chat)
    await chat.page.reload()
    await expect(chat.answer.locator("p").first).to_contain_text("<img src=x onerror=")
    await assert_no_markup(chat)


async def assert_no_markup(chat: Chat) -> None:
    await expect(chat.page.locator("#log :is(img, script, svg[onload], a), #sessions :is(img, script)")).to_have_count(0)
    assert await chat.page.evaluate("window.hit") is None


async def test_an_edited_question_replaces_its_turn_and_all_behind_it(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    chat = await open_chat(scripted.service.url)
    for question in ("one", "two", "three"):
        await chat.ask(question)

    await chat.button("Edit and ask again").nth(1).click()
    words = chat.page.get_by_label("Other words")
    await expect(words).to_be_focused()
    await expect(words).to_have_value("two")
    await words.press("Escape")
    await expect(chat.button("Edit and ask again").nth(1)).to_be_focused()
    await chat.page.keyboard.press("Enter")
    await words.fill("other")
    await chat.button("Ask again").click()

    await chat.says("".join(echo_tokens("other", 40)))
    await expect(chat.page.locator(".usage")).to_have_count(2)
    for _ in range(2):
        await expect(chat.questions).to_have_text(["You asked: one", "You asked: other"])
        await chat.page.reload()
    heard = [message["content"] for message in model.requests[-1].payload["messages"] if message["role"] == "user"]
    assert heard == ["one", "other"]


async def test_an_answer_is_regenerated_in_its_place(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    model.script.tokens = ["not good"]
    await chat.ask("one")
    await chat.page.reload()
    await chat.says("not good")
    model.script.tokens = ["better"]

    await chat.button("Regenerate").click()

    await chat.says("better")
    await expect(chat.questions).to_have_count(1)
    model.script.tokens_until = 0
    await chat.button("Regenerate").click()
    await expect(chat.status).to_have_text("Working…")
    await chat.button("Stop").click()
    await expect(chat.page.locator(".usage")).to_contain_text("stopped")
    await expect(chat.questions).to_have_count(1)


@pytest.mark.usefixtures("model")
async def test_what_cannot_be_replaced_comes_back(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    await chat.ask("one")
    await chat.ask("two")

    async def refuse(route: Route) -> None:
        body = '{"code": "guardrail_blocked", "detail": "This may not be asked."}'
        await route.fulfill(status=422, content_type="application/problem+json", body=body)

    await chat.page.route("**/chat", refuse, times=1)
    await chat.button("Regenerate").first.click()

    await expect(chat.page.get_by_role("alert")).to_have_text("This may not be asked.")
    await expect(chat.page.locator(".turn", has=chat.page.locator(".usage"))).to_have_count(2)


async def test_answers_questions_and_code_are_copied_as_they_were_written(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    answer = "Use **this**:\n\n```python\nprint('a')\n\n    # b\n```"
    model.script = Script(tokens=[answer])
    chat = await open_chat(scripted.service.url)
    await chat.ask("How?  Two spaces")
    assert await chat.copied("Copy code") == "print('a')\n\n    # b"
    assert await chat.copied("Copy answer") == answer
    assert await chat.copied("Copy what you asked") == "How?  Two spaces"
    await expect(chat.answer.locator(".hljs-comment")).to_have_text("# b")


async def test_sources_lead_to_their_passages_and_stay_after_a_reload_as_decisions_do(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    await chat.ask("Remember that a buoy is yellow")
    await chat.button("Reject").click()
    await chat.page.get_by_label("Reason, for the agent (optional)").fill("it is red")
    await chat.button("Reject").last.click()
    await expect(chat.answer).to_contain_text("was rejected")

    for _ in range(2):
        for way in (chat.page.locator(".sources"), chat.page.locator(".answer cite")):
            await way.get_by_role("button").first.click()
            dialog = chat.page.get_by_role("dialog")
            await expect(dialog.get_by_role("heading")).to_have_text("Harbour manual › Mooring")
            await expect(dialog).to_contain_text("two ropes before its engine stops")
            await chat.button("Close").click()
            await expect(dialog).to_be_hidden()
        await expect(chat.page.get_by_text("Rejected.")).to_be_visible()
        await chat.page.reload()
    await expect(chat.page.get_by_text("Rejected. “it is red”")).to_be_visible()


async def test_a_long_answer_is_followed_until_one_scrolls_up_and_again_on_request(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script = Script(tokens=[f"Line {at}\n\n" for at in range(80)], tokens_until=60)
    chat = await open_chat(scripted.service.url)
    await chat.type("long")
    await expect(chat.answer).to_contain_text("Line 59")
    jump = chat.button("Jump to latest ↓")
    await expect(jump).to_be_hidden()
    await chat.page.locator("#log").hover()
    await chat.page.mouse.wheel(0, -600)
    await expect(jump).to_be_visible()
    model.script.tokens_until = None
    await expect(chat.page.locator(".usage")).to_be_attached()
    await expect(jump).to_be_visible()

    await jump.click()

    await expect(jump).to_be_hidden()
    await expect(chat.page.get_by_text("Line 79")).to_be_in_viewport()
