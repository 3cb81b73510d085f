"""The developer's view: the graph as it is, the node that runs lit, and how long each took."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from tests.integration.page.axe import violations
from tests.integration.page.conftest import OpenChat, Site, fake_model_env, running_site
from tests.integration.page.test_look import COLOURS, SCHEMES, contrast
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, ToolCall
from tests.support.tokens import bearer

EDGES_BEHIND_NODES = """() => [...document.querySelectorAll(".drawing .edge")].flatMap((edge) => {
    const points = Array.from({length: 101}, (_, at) => edge.getPointAtLength(edge.getTotalLength() * at / 100));
    return [...document.querySelectorAll(".drawing rect")].filter((rect) => {
        const {x, y, width, height} = rect.getBBox();
        return points.some((point) => point.x > x + 1 && point.x < x + width - 1 && point.y > y + 1 && point.y < y + height - 1);
    });
}).map((rect) => rect.parentNode.dataset.node)"""

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def developing(admin_url: str, _model: FakeModel) -> AsyncIterator[Site]:
    """The loop of a model and its tools, in the service of whoever writes it."""
    async with running_site(admin_url, **fake_model_env(_model), DEVELOPER_MODE="on") as site:
        yield site


async def test_the_graph_is_drawn_and_the_node_that_runs_is_lit_until_it_ends(
    developing: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    chat = await open_chat(developing.service.url)
    await chat.button("Developer").click()
    await expect(chat.page.get_by_role("img", name="Graph")).to_be_visible()
    names = await chat.page.locator(".drawing [data-node]").evaluate_all("nodes => nodes.map((node) => node.dataset.node)")
    assert sorted(names) == ["__end__", "__start__", "model", "tools"]
    await expect(chat.page.locator(".drawing .edge")).to_have_count(4)

    model.script.tokens_until = 1
    await chat.type("hello")
    await expect(chat.page.locator(".drawing .running")).to_have_attribute("data-node", "model")
    await expect(chat.page.locator("#drawn [role=status]")).to_have_text("Running: model")
    model.script.tokens_until = None
    await expect(chat.page.locator(".usage")).to_have_count(1)
    await expect(chat.page.locator(".drawing .running")).to_have_count(0)
    await expect(chat.page.locator("#times tbody tr td").first).to_have_text("model")


async def test_it_opens_and_closes_by_keyboard_and_fits_390_pixels(
    developing: Site,
    model: FakeModel,
    open_chat: OpenChat,
) -> None:
    model.script.tokens = ["Short."]
    chat = await open_chat(developing.service.url, viewport={"width": 390, "height": 800})
    await chat.ask("hello")
    await chat.button("Developer").focus()
    await chat.page.keyboard.press("Enter")
    await expect(chat.page.get_by_role("img", name="Graph")).to_be_visible()
    assert await chat.page.evaluate("document.documentElement.scrollWidth") == 390
    assert await chat.page.evaluate(EDGES_BEHIND_NODES) == []
    for scheme in SCHEMES:
        await chat.page.emulate_media(color_scheme=scheme)
        found = await chat.page.locator("#developer :is(h2, h3, p, td, th, button)").evaluate_all(COLOURS)
        assert [(text, colours) for text, colours in found if contrast(*colours) < 4.5] == []
    await chat.button("Close").focus()
    await chat.page.keyboard.press("Escape")
    await expect(chat.page.locator("#developer")).to_be_hidden()
    await expect(chat.button("Developer")).to_be_focused()


async def test_in_production_admins_have_the_view_and_others_have_not(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(offline.service.url)
    await chat.ask("How is a vessel moored?")
    await expect(chat.button("Developer")).to_be_hidden()
    for role in ("admin", "platform"):
        admin = await open_chat(offline.service.url, key=bearer("root", "quay", role)["Authorization"].split()[1])
        await admin.button("Developer").click()
        await expect(admin.page.get_by_role("img", name="Graph")).to_be_visible()


async def test_admins_have_no_view_where_it_is_off(admin_url: str, open_chat: OpenChat) -> None:
    async with running_site(admin_url, DEVELOPER_VIEW="off") as site:
        chat = await open_chat(site.service.url, key=bearer("root", "quay", "admin")["Authorization"].split()[1])
        await chat.ask("Show my notes")
        await expect(chat.button("Developer")).to_be_hidden()


async def test_each_visit_of_a_node_shows_the_tokens_of_its_model_call(
    developing: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script = Script(
        tokens=["Done."], tool_calls=[ToolCall(name="lookup", arguments={"query": "rope"})], preface=["Let me look."]
    )
    key = bearer(f"user-{uuid4().hex}")
    chat = await open_chat(developing.service.url, key=key["Authorization"].split()[1])
    await chat.button("Developer").click()
    await chat.ask("hello")
    cells = chat.page.locator("#times tbody td:last-child")
    await expect(cells.first).to_contain_text("out")
    run = ((await chat.page.locator(".usage code").get_attribute("title")) or "").split()[1]
    answer = await chat.page.request.get(f"{developing.service.url}/runs/{run}/calls", headers=key)
    calls = (await answer.json())["calls"]
    assert [each["node"] for each in calls] == ["model", "model"]
    assert all(each["input_tokens"] > 0 and each["output_tokens"] > 0 for each in calls)
    first, second = (f"{each['input_tokens']:,} in, {each['output_tokens']:,} out" for each in calls)
    names = await chat.page.locator("#times tbody td:first-child").all_inner_texts()
    shown = dict(zip(range(len(names)), await cells.all_inner_texts(), strict=True))
    assert [shown[at] for at, name in enumerate(names) if name == "model"] == [first, second]
    assert {shown[at] for at, name in enumerate(names) if name != "model"} <= {"\u2013"}

    await chat.page.reload()
    await chat.button("Developer").click()
    await chat.button("Steps and cost").click()
    await expect(cells.first).to_have_text(first)


async def test_a_node_with_more_calls_than_visits_shows_their_sum(developing: Site, open_chat: OpenChat) -> None:
    page = (await open_chat(developing.service.url)).page
    shown = await page.evaluate(
        """async () => {
            const script = document.querySelector("script[src*='js/main.js']").src;
            const { tokensOf } = await import(script.replace("main.js", "waterfall.js"));
            const call = (node, read, wrote) => ({ node, input_tokens: read, output_tokens: wrote });
            const bars = ["plan", "work", "plan"].map((node) => ({ node }));
            const plan = [call("plan", 1000, 1), call("plan", 3, 1), call("plan", 4, 1)];
            return tokensOf(bars, [...plan, call("work", 5, 2), call("work", 6, 2)]);
        }"""
    )
    assert shown == ["", "11 in, 4 out", "Σ 1,007 in, 3 out"]


TANGLE = """async () => {
    const script = document.querySelector("script[src*='js/main.js']").src;
    const { Drawing } = await import(script.replace("main.js", "drawing.js"));
    const nodes = ["__start__", "plan", "left", "middle", "right", "review", "alone", "__end__"].map((id) => ({ id }));
    const edges = [["__start__", "plan"], ["plan", "left"], ["plan", "middle"], ["plan", "right"], ["left", "review"],
        ["middle", "review"], ["right", "review"], ["left", "plan"], ["review", "plan"], ["review", "review"],
        ["plan", "__end__"], ["plan", "review"], ["review", "__end__"]].map(([source, target]) => ({ source, target }));
    globalThis.drawing = new Drawing("tangle", { nodes, edges });
    document.getElementById("drawn").replaceChildren(globalThis.drawing.root);
}"""


async def test_a_tangle_of_loops_is_drawn_beside_its_nodes_and_a_graph_inside_lights_its_holder(
    developing: Site, open_chat: OpenChat
) -> None:
    page = (await open_chat(developing.service.url)).page
    await page.get_by_role("button", name="Developer").click()
    await expect(page.locator(".drawing .edge")).to_have_count(4)
    await page.evaluate(TANGLE)
    assert await page.evaluate(EDGES_BEHIND_NODES) == []

    async def lit(*events: str) -> list[str]:
        for event in events:
            await page.evaluate(f"drawing.hear({event})")
        names: list[str] = await page.locator(".drawing .running").evaluate_all("all => all.map((each) => each.dataset.node)")
        return names

    assert await lit('{node: "left", state: "start", path: ["left"]}', '{node: "middle", state: "start"}') == ["left", "middle"]
    assert await lit('{node: "inner", state: "start", path: ["left", "inner"]}', '{node: "left", state: "end"}') == [
        "left",
        "middle",
    ]
    assert await lit('{node: "inner", state: "end"}', '{node: "unheard", state: "end"}') == ["middle"]


async def test_a_state_is_gone_back_to_and_branched_from(developing: Site, model: FakeModel, open_chat: OpenChat) -> None:
    chat = await open_chat(developing.service.url)
    model.script.tokens = ["One."]
    await chat.ask("first thing")
    model.script.tokens = ["Two."]
    await chat.ask("second thing")
    await chat.button("Developer").click()
    states = chat.page.locator("#states li")
    ends = chat.page.locator("#states li", has_text="end")
    await expect(ends).to_have_count(2)
    await ends.last.locator("summary").focus()
    await chat.page.keyboard.press("Enter")
    await expect(ends.last.locator("pre")).to_contain_text("One.")
    await expect(ends.last.locator("pre")).not_to_contain_text("Two.")
    before = await states.count()

    model.script.tokens = ["Three."]
    await ends.last.get_by_role("button", name="Ask from here").click()
    await ends.last.get_by_role("textbox").fill("another second thing")
    await ends.last.get_by_role("button", name="Ask", exact=True).click()
    await chat.says("Three.")
    await expect(ends).to_have_count(3)
    await ends.first.locator("summary").click()
    state = ends.first.locator("pre")
    await expect(state).to_contain_text("another second thing")
    await expect(state).to_contain_text("One.")
    await expect(state).not_to_contain_text("Two.")
    assert await states.count() > before

    model.script.tokens = ["Four."]
    asks = chat.page.locator("#states li", has_text="next: model")
    await asks.first.locator("summary").click()
    await asks.first.get_by_role("button", name="Run model again").click()
    await chat.says("Four.")


async def test_it_keeps_the_rules_of_wcag(developing: Site, model: FakeModel, open_chat: OpenChat) -> None:
    model.script.tokens = ["Short."]
    chat = await open_chat(developing.service.url)
    await chat.ask("hello")
    await chat.button("Developer").click()
    end = chat.page.locator("#states li", has_text="end").first
    await end.locator("summary").click()
    await end.get_by_role("button", name="Ask from here").click()
    await expect(end.get_by_role("textbox")).to_be_focused()
    assert await violations(chat.page) == []


async def test_after_a_branch_the_chat_shows_the_turns_that_the_branch_knows(
    developing: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    chat = await open_chat(developing.service.url)
    for answer in ("One.", "Two.", "Three."):
        model.script.tokens = [answer]
        await chat.ask(f"ask {answer}")
    await chat.button("Developer").click()
    ends = chat.page.locator("#states li", has_text="end")
    await expect(ends).to_have_count(3)

    async def branch(state: Locator, question: str, answer: str) -> None:
        model.script.tokens = [answer]
        await state.locator("summary").click()
        await state.get_by_role("button", name="Ask from here").click()
        await state.get_by_role("textbox").fill(question)
        await state.get_by_role("button", name="Ask", exact=True).click()
        await chat.says(answer)

    async def shown() -> list[str]:
        return [text.removeprefix("You asked:").strip() for text in await chat.questions.all_inner_texts()]

    await branch(ends.last, "another second", "Other two.")
    assert await shown() == ["ask One.", "another second"]
    await chat.page.reload()
    await expect(chat.questions).to_have_count(2)
    await expect(chat.page.locator(".answer")).to_have_text(["One.", "Other two."])

    model.script.tokens = ["Other three."]
    await chat.ask("another third")
    assert await shown() == ["ask One.", "another second", "another third"]

    model.script.tokens = ["Other two again."]
    await chat.page.locator(".turn", has_text="another second").get_by_role("button", name="Regenerate").click()
    await chat.says("Other two again.")
    await chat.page.reload()
    await expect(chat.page.locator(".answer")).to_have_text(["One.", "Other two again."])

    await chat.button("Developer").click()
    three = chat.page.locator("#states li", has_text="end").filter(has_text="Three.")
    await branch(three, "fourth", "Four.")
    await chat.page.reload()
    await expect(chat.page.locator(".answer")).to_have_text(["One.", "Two.", "Three.", "Four."])

    await chat.button("Developer").click()
    asks = chat.page.locator("#states li", has_text="next: model").first
    model.script.tokens = ["Four again."]
    await asks.locator("summary").click()
    await asks.get_by_role("button", name="Run model again").click()
    await chat.says("Four again.")
    await chat.page.reload()
    await expect(chat.page.locator(".answer")).to_have_text(["One.", "Two.", "Three.", "Four again."])
    assert await shown() == ["ask One.", "ask Two.", "ask Three.", "fourth"]
