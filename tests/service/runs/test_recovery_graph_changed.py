"""What another version of a graph has left, and whether this one can go on from it."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from agent_service.errors import GraphChanged
from agent_service.runs.recovery import checkpointed
from tests.durability import versions


class Fanned(TypedDict, total=False):
    """A list that nodes are sent parts of."""

    items: list[str]
    empty: list[str]


def fanning(worker: str, *, shape: type[Any] = Fanned) -> Any:
    graph: Any = StateGraph(shape)
    graph.add_node("split", lambda _: {"items": ["a"], "empty": []})
    graph.add_node(worker, lambda _: {"items": [interrupt("go on?")]})
    graph.add_edge(START, "split")
    graph.add_conditional_edges("split", lambda state: [Send(worker, each) for each in state["items"]], [worker])
    return graph


class WithoutEmpty(TypedDict, total=False):
    """A key less, which held nothing."""

    items: list[str]


async def lost(before: Any, after: Any, given: dict[str, Any], *, started: bool) -> str:
    """What a run that `after` is to go on with would lose; `started` by an attempt of its own, or else it is a decision."""
    saver, run_id = InMemorySaver(), uuid4()
    config: RunnableConfig = {"configurable": {"thread_id": "t"}, "metadata": {"run_id": str(run_id)}}
    await before.compile(checkpointer=saver).ainvoke(given, config)
    run: Any = SimpleNamespace(id=run_id if started else uuid4(), input={} if started else {"resume": {}})
    try:
        await checkpointed(after.compile(checkpointer=saver), {"configurable": {"thread_id": "t"}}, run)
    except GraphChanged as error:
        return error.detail.rpartition("this one has no ")[2]
    return ""


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize(
    ("question", "after", "missing"),
    [
        ("ask", versions.old, ""),
        ("nested", versions.old, ""),
        ("ask", versions.more, ""),
        ("nested", versions.more, ""),
        ("ask", versions.other_key, "noted"),
        ("ask", versions.other_nodes, "ask"),
        ("nested", versions.other_nodes, "nested.ask"),
        ("nested", versions.other, "nested.ask, noted"),
    ],
)
async def test_nodes_whose_turn_it_is_and_keys_with_a_value_must_be_there(
    question: str, after: Any, missing: str, started: bool
) -> None:
    given = {"messages": [("user", f"{question} please")]}

    assert await lost(versions.old(None), after(None), given, started=started) == missing


async def test_a_node_that_was_sent_something_must_be_there_and_a_key_without_a_value_need_not() -> None:
    assert await lost(fanning("work"), fanning("labour"), {}, started=False) == "work"
    assert await lost(fanning("work"), fanning("work", shape=WithoutEmpty), {}, started=False) == ""


async def test_a_new_question_asks_nothing_of_what_was_before() -> None:
    saver = InMemorySaver()
    config: RunnableConfig = {"configurable": {"thread_id": "t"}, "metadata": {"run_id": str(uuid4())}}
    await versions.old(None).compile(checkpointer=saver).ainvoke({"messages": [("user", "quick")]}, config)
    run: Any = SimpleNamespace(id=uuid4(), input={"messages": []})

    found = await checkpointed(versions.other(None).compile(checkpointer=saver), {"configurable": {"thread_id": "t"}}, run)

    assert not found.started
