"""Chat pages that send a person's id as `user`, and ask for titles beside: https://github.com/danny-avila/LibreChat/discussions/7233,
LibreChat#6341 and https://github.com/open-webui/open-webui/discussions/13305.

Two requests at once with one `user` got 409 `session_busy`, and a second chat of the same person got the first one's history.
Siblings: a chat's id in a header (Open WebUI, LibreChat) with titles, tags and follow-up questions asked under it, edited and
branched histories, an answer asked for again, two tabs, and names of two people that are equal.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from tests.field.openai_api import Api, assistant, openai_api, user
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

GRAPH = "tests.support.graphs:remembering"

TITLE = "### Task:\nGenerate a concise title.\n<chat_history>\nUSER: apples\n</chat_history>"

CHAT_HEADERS = ["X-OpenWebUI-Chat-Id", "X-Conversation-Id"]


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with openai_api(database_url, GRAPH) as opened:
        yield opened


async def test_user_names_a_person_and_no_conversation(api: Api) -> None:
    answers = await asyncio.gather(
        *(api.says(messages=[user(word)], user="ann@x.org") for word in ("apples", "bananas", "cherries", TITLE))
    )
    assert answers == [f"You said {word}." for word in ("apples", "bananas", "cherries", TITLE)]
    second: Any = await api.client.chat.completions.create(model="slipway", messages=[user("figs")], user="ann@x.org")
    assert second.choices[0].message.content == "You said figs."


async def test_the_history_that_the_client_sends_is_the_conversation(api: Api) -> None:
    first = await api.says(messages=[user("apples")])
    history = [user("apples"), assistant(first)]
    both = await asyncio.gather(*(api.says(messages=[*history, user(word)], user="ann") for word in ("bananas", "cherries")))
    assert both == ["You said apples, bananas.", "You said apples, cherries."]
    assert await api.says(messages=[user("edited"), assistant(first), user("figs")]) == "You said edited, figs."


@pytest.mark.parametrize("header", CHAT_HEADERS)
async def test_a_chat_goes_on_in_one_session_and_titles_are_answered_beside_it(api: Api, header: str) -> None:
    chat = {header: "chat 1"}
    messages: list[Any] = []
    for number, word in enumerate(("apples", "bananas", "cherries"), 1):
        messages.append(user(word))
        answer, title = await asyncio.gather(
            api.says(chat, messages=messages, user="ann"),
            api.says(chat, messages=[user(TITLE)]) if number > 1 else asyncio.sleep(0, f"You said {TITLE}."),
        )
        messages.append(assistant(answer))
        assert answer == f"You said {', '.join(('apples', 'bananas', 'cherries')[:number])}."
        assert title == f"You said {TITLE}."
    (session,) = (await api.http.get("/sessions")).json()["sessions"]
    kept = (await api.http.get(f"/sessions/{session['session_id']}/messages")).json()["messages"]
    assert [m["content"] for m in kept if m["role"] == "user"] == ["apples", "bananas", "cherries"]


async def test_requests_at_once_under_one_name_are_all_answered_by_what_they_sent(api: Api) -> None:
    chat = {"X-OpenWebUI-Chat-Id": "busy"}
    words = ["apples", TITLE, "Suggest tags.", "Suggest three questions.", "another tab"]
    answers = await asyncio.gather(*(api.says(chat, messages=[user(word)]) for word in words))
    assert answers == [f"You said {word}." for word in words]


async def test_edits_branches_and_repeats_are_answered_by_the_history_that_was_sent(api: Api) -> None:
    chat = {"X-Conversation-Id": "7"}
    first = await api.says(chat, messages=[user("apples")])
    second = await api.says(chat, messages=[user("apples"), assistant(first), user("bananas")])
    assert second == "You said apples, bananas."
    assert await api.says(chat, messages=[user("apples"), assistant(first), user("bananas")]) == second  # asked again
    assert await api.says(chat, messages=[user("pears"), assistant(first), user("figs")]) == "You said pears, figs."  # edited
    assert await api.says(chat, messages=[user("pears")]) == "You said pears."
    going_on = [user("apples"), assistant(first), user("bananas"), assistant(second), user("cherries")]
    assert await api.says(chat, messages=going_on) == "You said apples, bananas, cherries."
    cut = [user("bananas"), assistant(second), user("cherries")]
    assert await api.says(chat, messages=cut) == "You said bananas, cherries."


@pytest.mark.parametrize("on_busy", ["enqueue", "interrupt"])
async def test_a_title_neither_waits_for_the_answer_nor_stops_it(database_url: str, on_busy: str) -> None:
    async with openai_api(database_url, f"{__name__}:slow", ON_BUSY=on_busy) as api:
        chat = {"X-OpenWebUI-Chat-Id": "slow"}
        answer = asyncio.create_task(api.says(chat, messages=[user("wait")]))
        while not (await api.http.get("/sessions")).json()["sessions"]:
            await asyncio.sleep(0.02)
        assert await api.says(chat, messages=[user("release")]) == "released"
        assert await answer == "waited"


def slow(_: Any) -> Any:
    """`wait` is answered when somebody said `release`."""
    released = asyncio.Event()

    async def node(state: MessagesState) -> dict[str, Any]:
        if str(state["messages"][-1].content) == "release":
            released.set()
            return {"messages": [AIMessage("released")]}
        await released.wait()
        return {"messages": [AIMessage("waited")]}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")


@pytest.mark.parametrize("how", ["header", "metadata"])
async def test_a_session_that_the_agent_remembers_is_named_as_such(api: Api, how: str) -> None:
    async def say(word: str, name: str) -> str:
        if how == "header":
            return await api.says({"X-Session-Id": name}, messages=[user(word)])
        given: Any = await api.client.chat.completions.create(
            model="slipway", messages=[user(word)], metadata={"session_id": f"Träume: {name}"}
        )
        return str(given.choices[0].message.content)

    assert await say("apples", "dreams 1") == "You said apples."
    assert await say("bananas", "dreams 1") == "You said apples, bananas."
    assert await say("cherries", "dreams 2") == "You said cherries."


async def test_one_name_is_another_conversation_for_another_caller(database_url: str) -> None:
    async with openai_api(database_url, GRAPH, AUTH="required", JWT_SECRET=JWT_SECRET) as api:
        for name in ("X-Session-Id", *CHAT_HEADERS):
            for caller in (bearer("ann", "acme"), bearer("bob", "acme"), bearer("ann", "globex")):
                assert await api.says({**caller, name: "same"}, messages=[user("apples")]) == "You said apples."


async def test_a_retry_with_its_key_joins_wherever_its_first_try_stands_by_now(api: Api) -> None:
    ids = set()
    for _ in range(3):
        headers = {"X-OpenWebUI-Chat-Id": "retried", "Idempotency-Key": "once"}
        ids.add((await api.post(headers, messages=[user("apples")])).json()["id"])
    assert len(ids) == 1


@pytest.mark.parametrize("name", ["", "x" * 257, "a/b?c=d", "a\tb"])
async def test_odd_names_are_taken_or_named_in_the_refusal(api: Api, name: str) -> None:
    answer = await api.post({"X-Conversation-Id": name}, messages=[user("apples")])
    assert answer.status_code == (422 if len(name) > 256 else 200)
