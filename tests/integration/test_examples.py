"""The examples, loaded as a user would, on the offline model."""

import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from agent_service.agents.graph_import import put_on_path
from agent_service.agents.loader import CompiledGraph, compile_graph, load_graph
from agent_service.langgraph_file import GraphSource
from tests.support.agents import make_context
from tests.support.service import running_service

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture(autouse=True)
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module path as it was; the examples' modules forgotten."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("travel", "refunds", "bot"):
        sys.modules.pop(name, None)


def serve(name: str) -> CompiledGraph:
    """The example compiled by the line that its README gives."""
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    line = re.search(r"AGENT_GRAPH=(\S+) AGENT_GRAPH_DIR=(\S+)", readme)
    assert line
    put_on_path([EXAMPLES.parent / line[2]])
    graph = load_graph(GraphSource("agent", line[1], "AGENT_GRAPH"), make_context())
    return compile_graph(graph, checkpointer=InMemorySaver(), store=InMemoryStore())


async def ask(graph: CompiledGraph, question: str) -> dict[str, Any]:
    return await graph.ainvoke({"messages": [HumanMessage(question)]}, CONFIG)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Convert 12 km to miles", "12 km = 7.456 miles"),
        ("Convert 100 celsius to fahrenheit", "100 celsius = 212 fahrenheit"),
        ("Convert 3 km to pounds", "Cannot convert km to pounds"),
        ("When does the next train leave Harbour after 09:00?", "From Harbour: 12:30 line 1 to Airport; 17:55"),
        ("When do trains leave the airport?", "From Airport: 07:00"),
        ("Next train from Atlantis station", "No such station. The timetable has Airport, Harbour, Old Town"),
    ],
)
async def test_the_react_agent_answers_from_its_tools(question: str, found: str) -> None:
    state = await ask(serve("react_agent"), question)

    assert found in state["messages"][-1].text


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("Refund order 1001", "Refunded 39.90 EUR for the desk lamp (order 1001)."),
        ("Refund order 1003", "No refund: the outlet chair was a final sale."),
        ("Refund order 9999", "No refund: there is no order 9999."),
        ("I want my money back", "No refund: please name the number of the order."),
    ],
)
async def test_refunds_follow_the_policy(question: str, reply: str) -> None:
    state = await ask(serve("refunds"), question)

    assert state["messages"][-1].text == reply


@pytest.mark.parametrize(
    ("decision", "reply"),
    [
        ({"type": "approve"}, "Refunded 480.00 EUR for the standing desk (order 1002)."),
        ({"type": "reject", "message": "damaged"}, "No refund: a colleague decided against it (damaged)."),
    ],
)
async def test_a_large_refund_waits_for_a_person(decision: dict[str, str], reply: str) -> None:
    graph = serve("refunds")
    waiting = await ask(graph, "Refund order 1002")
    assert waiting["__interrupt__"][0].value["action_requests"][0]["args"]["amount"] == 480.0

    state = await graph.ainvoke(Command(resume={"decisions": [decision]}), CONFIG)

    assert state["messages"][-1].text == reply


async def test_an_order_is_refunded_once() -> None:
    graph = serve("refunds")
    await ask(graph, "Refund order 1001")

    state = await ask(graph, "Refund order 1001")

    assert state["messages"][-1].text == "No refund: order 1001 was refunded before."


async def test_the_bot_of_slack_asks_a_message_once_and_remembers_its_thread(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path([EXAMPLES / "slack"])
    answer = importlib.import_module("bot").answer
    said: list[dict[str, str]] = []
    first = {"channel": "C1", "ts": "1.1", "text": "<@U9> hello"}
    later = {"channel": "C1", "ts": "2.2", "thread_ts": "1.1", "text": "<@U9> hello again"}
    async with running_service(database_url) as service:
        monkeypatch.setenv("SLIPWAY", service.url)
        for event in (first, first, later, {"channel": "C1", "ts": "3.3", "text": "<@U9>"}):
            await asyncio.to_thread(answer, event, lambda **words: said.append(words))
        async with service.client() as client:
            told = (await client.get("/sessions/slack-C1-1-1/messages")).json()["messages"]

    assert [each["thread_ts"] for each in said] == ["1.1", "1.1", "1.1", "3.3"]
    assert said[0]["text"] == said[1]["text"]
    assert "built-in offline model" in said[0]["text"]
    assert said[3]["text"].startswith("That did not work: ")
    assert [each["content"] for each in told if each["role"] == "user"] == ["hello", "hello again"]


@pytest.mark.parametrize("name", ["react_agent", "refunds", "slack"])
def test_an_example_imports_nothing_of_slipway(name: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (EXAMPLES / name).glob("*.py")]

    assert sources
    assert not any("agent_service" in source for source in sources)
