import json

import pytest
from playwright.async_api import expect

from tests.integration.page.conftest import OpenChat, Site, running_site

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEND_ANYWAY = """() => {
    document.querySelector("#question").value = "Something else";
    document.querySelector("#composer").requestSubmit();
}"""


async def test_an_approved_note_is_kept(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("Remember that the backup runs at three")
    await expect(chat.decision).to_be_focused()
    await expect(chat.decision.locator("pre")).to_contain_text("the backup runs at three")
    await expect(chat.status).to_have_text("Waiting for your decision")

    await chat.button("Approve").click()

    await expect(chat.answer).to_contain_text("Saved the note: the backup runs at three")
    await expect(chat.decision).to_have_count(0)
    await chat.ask_anew("Show my notes")
    await expect(chat.answer).to_contain_text("the backup runs at three")


async def test_an_edited_note_is_kept_as_edited(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("Remember that the backup runs at three")
    await chat.button("Edit").click()
    arguments = chat.page.get_by_label("Arguments (JSON)")
    assert json.loads(await arguments.input_value()) == {"text": "the backup runs at three"}
    await expect(chat.decision.get_by_role("button")).to_have_text(["Approve edited", "Cancel edit"])
    await chat.button("Cancel edit").click()
    await expect(chat.decision.get_by_role("button")).to_have_text(["Approve", "Edit", "Reject"])
    await chat.button("Edit").click()

    await arguments.fill('{"text": ')
    await chat.button("Approve edited").click()
    await expect(chat.decision.get_by_role("alert")).to_contain_text("Not sent")
    await arguments.fill('{"text": "the backup runs at four"}')
    await chat.button("Approve edited").click()

    await expect(chat.page.get_by_text("Approved with edited arguments.")).to_be_visible()
    await expect(chat.answer).to_contain_text("Saved the note: the backup runs at four")
    await chat.ask_anew("Show my notes")
    await expect(chat.answer).to_contain_text("four")
    await expect(chat.answer).not_to_contain_text("three")


async def test_a_rejected_note_is_not_kept_and_the_agent_reads_why(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("Remember that the backup runs at three")
    await chat.button("Reject").click()
    await chat.page.get_by_label("Reason, for the agent (optional)").fill("it does not")
    await chat.button("Reject").last.click()

    await expect(chat.answer).to_contain_text("was rejected")
    await expect(chat.answer).to_contain_text("it does not")
    await chat.ask_anew("Show my notes")
    await expect(chat.answer).to_contain_text("There are no notes.")


async def test_a_decision_still_waits_after_a_reload_and_keeps_other_questions_back(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("Remember that the backup runs at three")
    await chat.page.reload()

    await expect(chat.decision).to_be_visible()
    question = chat.page.get_by_label("Question")
    await expect(question).to_be_disabled()
    await expect(question).to_have_attribute("placeholder", "Decide above before the next question")
    await expect(chat.button("Send")).to_be_disabled()
    await chat.page.evaluate(SEND_ANYWAY)
    await expect(chat.page.locator(".question")).to_have_count(1)
    await chat.button("Approve").click()
    await expect(chat.answer).to_contain_text("Saved the note")
    await expect(chat.page.get_by_label("Steps").last).to_contain_text("approval")
    await expect(chat.page.locator(".trail", has_text="_model")).to_have_count(0)
    await chat.ask("Show my notes")


async def test_values_that_a_graph_asks_for_are_given_each_to_its_question(admin_url: str, open_chat: OpenChat) -> None:
    async with running_site(admin_url, AGENT_GRAPH="tests.integration.page.graphs:build") as site:
        chat = await open_chat(site.service.url)
        await chat.ask("one")
        await expect(chat.decision).to_contain_text("which colour?")
        await chat.page.get_by_label("Your answer").fill('{"name": "red"}')
        await chat.button("Send answer").click()
        await chat.says("Colour: {'name': 'red'}.")

        await chat.ask_anew("both")
        for text, value in (("which colour?", "blue"), ('"S"', "M")):
            review = chat.decision.locator(".review", has_text=text)
            await review.get_by_label("Your answer").fill(value)
            await review.get_by_role("button").click()
        await expect(chat.answer).to_contain_text("Colour: blue.")
        await expect(chat.answer).to_contain_text("Size: M.")
