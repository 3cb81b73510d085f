"""RemoteGraph: the served graph as if it were in this process, alone and as a node of another."""

import uuid
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.wire import AGENT, named, question, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def remote(sdk: LangGraphClient) -> RemoteGraph:
    return RemoteGraph(AGENT, client=sdk)


def on(thread: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread}}


async def test_invoke_without_a_thread(remote: RemoteGraph) -> None:
    assert texts(await remote.ainvoke(question("hello"))) == ["hello", "It is so."]


async def test_invoke_on_a_thread_that_it_makes(remote: RemoteGraph, sdk: LangGraphClient) -> None:
    thread = (await sdk.threads.create())["thread_id"]
    await sdk.threads.delete(thread)
    assert texts(await remote.ainvoke(question("hello"), on(thread))) == ["hello", "It is so."]
    assert texts((await sdk.threads.get_state(thread))["values"]) == ["hello", "It is so."]


async def test_stream_of_values_and_updates(remote: RemoteGraph, thread: str) -> None:
    stream: Any = remote.astream(question("hello"), on(thread), stream_mode=["values", "updates"])
    events = [part async for part in stream]
    assert [update.keys() for update in named(events, "updates")] == [{"gate"}, {"chat"}]
    assert texts(named(events, "values")[-1]) == ["hello", "It is so."]


async def test_stream_of_messages(remote: RemoteGraph, thread: str) -> None:
    told: Any = [each async for each in remote.astream(question("hello"), on(thread), stream_mode="messages")]
    assert "".join(chunk["content"] for chunk, _ in told) == "It is so."


async def test_state_and_history(remote: RemoteGraph, thread: str) -> None:
    await remote.ainvoke(question("approve"), on(thread))
    state = await remote.aget_state(on(thread))
    assert (state.next, state.values["note"]) == (("approve",), "plain")
    assert [each.value for each in state.tasks[0].interrupts] == [{"question": "Go on?"}]
    history = [each async for each in remote.aget_state_history(on(thread))]
    assert [each.next for each in history] == [("approve",), ("gate",), ("__start__",)]


async def test_state_is_updated(remote: RemoteGraph, thread: str) -> None:
    await remote.ainvoke(question("approve"), on(thread))
    config = await remote.aupdate_state(on(thread), {"note": "mine"}, as_node="approve")
    assert config["configurable"]["thread_id"] == thread
    state = await remote.aget_state(on(thread))
    assert (state.next, state.values["note"]) == (("chat",), "mine")


async def test_a_command_resumes(remote: RemoteGraph, thread: str) -> None:
    await remote.ainvoke(question("approve"), on(thread))
    values: Any = await remote.ainvoke(Command(resume="yes"), on(thread))
    assert values["note"] == "decided: yes"


async def test_the_graph_is_drawn(remote: RemoteGraph) -> None:
    assert {"gate", "chat"} <= (await remote.aget_graph()).nodes.keys()


async def test_a_failure_raises(remote: RemoteGraph, thread: str) -> None:
    with pytest.raises(Exception, match="error"):
        await remote.ainvoke(question("fail"), on(thread))


def around(remote: RemoteGraph) -> Any:
    """A local graph whose only node is the remote one."""
    graph = StateGraph(MessagesState).add_node("remote", remote).add_edge(START, "remote")
    return graph.compile(checkpointer=InMemorySaver())


async def test_as_a_node_of_another_graph(remote: RemoteGraph) -> None:
    values = await around(remote).ainvoke(question("hello"), on(str(uuid.uuid4())))
    assert [message.content for message in values["messages"]] == ["hello", "It is so."]


async def test_as_a_node_its_tokens_and_updates_reach_the_outer_stream(remote: RemoteGraph) -> None:
    stream = around(remote).astream(question("hello"), on(str(uuid.uuid4())), stream_mode=["updates", "messages"], subgraphs=True)
    events = [each async for each in stream]
    assert any(namespace and namespace[0].startswith("remote:") for namespace, _, _ in events)
    chunks: list[Any] = [data[0] for _, mode, data in events if mode == "messages"]
    # RemoteGraph hands the served graph's chunks on as JSON; what its node returned in the end is a message.
    assert "".join(chunk["content"] for chunk in chunks if isinstance(chunk, dict)) == "It is so."


async def test_as_a_node_its_interrupt_stops_the_outer_graph(remote: RemoteGraph) -> None:
    values = await around(remote).ainvoke(question("approve"), on(str(uuid.uuid4())))
    assert [each.value for each in values["__interrupt__"]] == [{"question": "Go on?"}]
