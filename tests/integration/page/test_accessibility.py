"""WCAG 2.2 AA on each page in each of its states, by axe-core, in light and dark, wide and at 390 pixels."""

import pytest
from playwright.async_api import expect

from tests.integration.page.axe import SCHEMES, WIDTHS, violations
from tests.integration.page.conftest import OpenChat, Site
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall
from tests.support.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = WIDTHS[1:]

RICH = """# Mooring

Two **ropes**, *then* the `engine`, ~~never~~ before; see [the manual](https://example.org/manual).

> A vessel is moored with two ropes.

- [x] first rope
- [ ] second rope

1. one
2. two

| rope | metres |
|---|---:|
| bow | 20 |

```python
# Ropes.
def moor(vessel: str, ropes: int = 2) -> str:
    return f"{vessel} by {ropes}"
```

![A picture](https://example.org/rope.png)
"""


async def test_an_empty_session_and_its_menu(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await expect(chat.page.locator("#empty")).to_be_visible()
    assert await violations(chat.page) == []
    await chat.button("Sessions").click()
    await expect(chat.button("New session")).to_be_visible()
    assert await violations(chat.page, widths=PHONE) == []


async def test_an_answer_with_sources_and_the_passage_of_one(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    await expect(chat.page.locator(".sources li")).not_to_have_count(0)
    await chat.page.locator(".tool summary").first.click()
    assert await violations(chat.page) == []
    await chat.page.locator(".sources").get_by_role("button").first.click()
    await expect(chat.page.get_by_role("dialog")).to_be_visible()
    assert await violations(chat.page) == []


async def test_an_answer_with_code_tables_tools_and_reasoning(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    calls = [ToolCall(name="lookup", arguments={"query": "rope"})]
    model.script = Script(tokens=[RICH], tool_calls=calls, preface=["Let me look."])
    chat = await open_chat(scripted.service.url)
    await chat.ask("Show me the code")
    await chat.page.locator(".code").scroll_into_view_if_needed()
    await expect(chat.page.locator(".hljs-keyword").first).to_be_visible()
    assert await violations(chat.page) == []


async def test_an_answer_that_grows(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    model.script.tokens_until = 3
    await chat.type("grow")
    await expect(chat.status).to_have_text("Working…")
    assert await violations(chat.page) == []
    model.script.tokens_until = None
    await expect(chat.button("Regenerate")).to_be_visible()


async def test_a_decision_its_forms_and_what_was_decided(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("Remember that the backup runs at three")
    await expect(chat.decision).to_be_visible()
    assert await violations(chat.page) == []
    await chat.button("Edit").click()
    assert await violations(chat.page) == []
    await chat.button("Cancel edit").click()
    await chat.button("Reject").click()
    await chat.button("Reject").last.click()
    await expect(chat.answer).to_contain_text("was rejected")
    assert await violations(chat.page) == []


async def test_an_error_of_a_turn_and_one_of_the_page(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    model.script.faults = [Fault(kind="server_error", model="gpt-4o")]
    chat = await open_chat(scripted.service.url)
    await chat.ask("again")
    await expect(chat.button("Retry")).to_be_visible()
    assert await violations(chat.page) == []
    await chat.page.goto(f"{scripted.service.url}#not-there")
    await expect(chat.page.get_by_role("alert")).to_be_visible()
    assert await violations(chat.page) == []


async def test_forms_over_a_turn_and_in_the_list(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("Show my notes")
    await chat.button("Bad answer").click()
    await expect(chat.page.get_by_label("Anything to add? (optional)")).to_be_visible()
    await chat.button("Edit and ask again").click()
    await expect(chat.page.get_by_label("Other words")).to_be_visible()
    assert await violations(chat.page) == []
    await chat.page.set_viewport_size(WIDTHS[0])
    await chat.button("Rename session Show my notes").click()
    await expect(chat.page.get_by_label("Name of the session")).to_be_focused()
    assert await violations(chat.page, widths=WIDTHS[:1]) == []


async def test_the_question_for_a_key(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url, key="")
    await expect(chat.page.get_by_role("dialog")).to_be_visible()
    assert await violations(chat.page) == []


async def test_a_session_that_is_read_again_and_the_list(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    await chat.ask_anew("Show my notes")
    await chat.page.reload()
    await expect(chat.button("Steps and cost")).to_be_visible()
    assert await violations(chat.page) == []
    await chat.button("Sessions").click()
    await expect(chat.page.locator("#sessions li")).to_have_count(2)
    assert await violations(chat.page, widths=PHONE) == []


async def test_the_page_of_budgets_and_spend(offline: Site, open_chat: OpenChat) -> None:
    key = bearer("root", "quay", "admin")["Authorization"].split()[1]
    chat = await open_chat(offline.service.url, key=key)
    await chat.ask("Show my notes")
    await chat.page.goto(f"{offline.service.url}/spend")
    await expect(chat.page.locator("#status")).to_contain_text("until now")
    assert await violations(chat.page) == []


async def test_axe_finds_what_is_wrong(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.page.evaluate("document.querySelector('label[for=question]').remove()")
    await chat.page.evaluate("document.querySelector('#question').removeAttribute('placeholder')")
    found = await violations(chat.page)
    assert [each.partition(" at ")[0] for each in found] == [
        f"{scheme} {size['width']}: label" for size in WIDTHS for scheme in SCHEMES
    ]
