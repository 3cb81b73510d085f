"""A node calls an agent and returns its text as a message of its own: https://github.com/langchain-ai/langgraph/issues/6153.

The answer stood twice, after a resume too. Siblings: other white space, two texts put together, an agent in an agent, a list with
old messages; and what must not be taken for a repetition: the same text by another node, by a later one, or as a part.
"""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.field.serving import ask, served


def speaker(text: str) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await GenericFakeChatModel(messages=iter([AIMessage(text)])).ainvoke("q")]}

    return node


def says(*texts: str) -> Any:
    """An agent that streams each of these."""
    graph = StateGraph(MessagesState)
    for number, text in enumerate(texts):
        graph.add_node(f"n{number}", speaker(text)).add_edge(f"n{number - 1}" if number else START, f"n{number}")
    return graph.compile()


INNER, PAIR = says("The answer is 42."), says("First this.", "Then that.")


async def anew(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage((await INNER.ainvoke(state))["messages"][-1].text)]}


async def with_white_space(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"\n{(await INNER.ainvoke(state))['messages'][-1].text}  ")]}


async def put_together(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("\n".join(m.text for m in (await PAIR.ainvoke(state))["messages"][-2:]))]}


async def whole_list(state: MessagesState) -> dict[str, Any]:
    return {"messages": (await PAIR.ainvoke(state))["messages"]}


async def agent_in_agent(state: MessagesState) -> dict[str, Any]:
    middle = StateGraph(MessagesState).add_node("anew", anew).add_edge(START, "anew").compile()
    return {"messages": [AIMessage((await middle.ainvoke(state))["messages"][-1].text)]}


async def after_a_decision(state: MessagesState) -> dict[str, Any]:
    found = await INNER.ainvoke(state)
    interrupt("go on?")
    return {"messages": [AIMessage(found["messages"][-1].text)]}


async def more_than_was_said(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"{(await INNER.ainvoke(state))['messages'][-1].text} Really.")]}


def graph_of(node: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda _: StateGraph(MessagesState).add_node("outer", node).add_edge(START, "outer")


build_anew, build_white_space, build_together = graph_of(anew), graph_of(with_white_space), graph_of(put_together)
build_list, build_nested, build_more = graph_of(whole_list), graph_of(agent_in_agent), graph_of(more_than_was_said)
build_decision = graph_of(after_a_decision)


def build_two_nodes(_: Any) -> Any:
    """A later node that happens to say the same is heard."""

    async def again(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("The answer is 42.")]}

    sequence: list[Any] = [("outer", anew), ("again", again)]
    return StateGraph(MessagesState).add_sequence(sequence).add_edge(START, "outer")


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        ("build_anew", "The answer is 42."),
        ("build_white_space", "The answer is 42."),
        ("build_nested", "The answer is 42."),
        ("build_together", "First this.\n\nThen that."),
        ("build_list", "First this.\n\nThen that."),
        ("build_more", "The answer is 42.\n\nThe answer is 42. Really."),
        ("build_two_nodes", "The answer is 42.\n\nThe answer is 42."),
    ],
)
async def test_what_was_streamed_is_not_said_again(database_url: str, build: str, answer: str) -> None:
    async with served(database_url, __name__, build) as client:
        assert (await ask(client))["answer"] == answer


async def test_after_a_resume_it_is_said_once_too(database_url: str) -> None:
    async with served(database_url, __name__, "build_decision") as client:
        run = await ask(client)
        assert (run["outcome"], run["answer"]) == ("interrupted", "The answer is 42.")
        decided = (await client.post(f"/runs/{run['run_id']}/resume", json={"value": "yes"})).json()
    assert (decided["outcome"], decided["answer"]) == ("completed", "The answer is 42.")
