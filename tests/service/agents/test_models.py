import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from agent_service.agents.chat_model import chat_model
from agent_service.agents.models import open_models
from agent_service.errors import ModelRejected, ModelUnavailable, SlipwayError
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, FaultKind, Script, ToolCall, echo_tokens
from tests.support.model_client import Client, model_settings, open_client

ECHO = "".join(echo_tokens("hello"))
QUESTION = {"messages": [HumanMessage("hello")]}


class Route(BaseModel):
    """Where a question goes."""

    name: str
    certain: bool


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@pytest.fixture
async def fake() -> AsyncIterator[FakeModel]:
    async with FakeModel() as server:
        yield server


@pytest.fixture
async def client(fake: FakeModel) -> AsyncIterator[Client]:
    async with open_client(fake, fallback="spare", model_timeout=0.5) as opened:
        yield opened


@pytest.fixture
def model(client: Client) -> BaseChatModel:
    return chat_model("fake-1", client.reader)


def graph_of(model: BaseChatModel) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A ReAct loop with one tool."""
    bound = model.bind_tools([add])

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "agent")
    return graph.compile()


async def streamed(graph: CompiledStateGraph[Any, Any, Any, Any], into: list[str] | None = None) -> str:
    """Text of the model's chunks, as stream_mode "messages" shows them."""
    texts: list[str] = [] if into is None else into
    async for message, _ in graph.astream(QUESTION, stream_mode="messages"):
        if isinstance(message, AIMessageChunk):
            texts.append(message.text)
    return "".join(texts)


async def test_a_graph_streams_the_answer_and_keeps_usage_and_model_name(fake: FakeModel, model: BaseChatModel) -> None:
    fake.script = Script(cached_tokens=1, answers_as="fake-1-2026-01-01")
    graph = graph_of(model)
    assert await streamed(graph) == ECHO
    answer = (await graph.ainvoke(QUESTION))["messages"][-1]
    assert answer.text == ECHO
    assert answer.response_metadata["model_name"] == "fake-1-2026-01-01"
    assert answer.usage_metadata == {
        "input_tokens": 1,
        "output_tokens": 50,
        "total_tokens": 51,
        "input_token_details": {"cache_read": 1},
        "output_token_details": {},
    }


async def test_a_graph_calls_tools_and_answers_with_their_result_in_sight(fake: FakeModel, model: BaseChatModel) -> None:
    fake.script = Script(tool_calls=[ToolCall(name="add", arguments={"a": 40, "b": 2})])
    messages = (await graph_of(model).ainvoke(QUESTION))["messages"]
    assert [m.type for m in messages] == ["human", "ai", "tool", "ai"]
    assert messages[1].tool_calls[0]["args"] == {"a": 40, "b": 2}
    assert messages[2].content == "42"
    assert messages[3].text == ECHO
    assert fake.requests[1].payload["messages"][-1] == {"role": "tool", "content": "42", "tool_call_id": "call_0"}


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("rate_limited", ["rate_limited", "ok"]),
        ("server_error", ["server_error", "ok"]),
        ("slow_headers", ["timeout", "ok"]),
        ("hang", ["timeout", "ok"]),
        ("cut", ["connection_error", "ok"]),
        ("malformed", ["server_error", "ok"]),
        ("stream_error", ["server_error", "ok"]),
        ("unauthorized", ["auth", "ok"]),
    ],
)
async def test_a_graph_does_not_notice_a_fault_before_the_first_output(
    fake: FakeModel, client: Client, model: BaseChatModel, kind: FaultKind, statuses: list[str]
) -> None:
    fake.script = Script(faults=[Fault(kind=kind, retry_after="1")])
    assert await streamed(graph_of(model)) == ECHO
    assert client.statuses == statuses


@pytest.mark.parametrize("kind", ["cut", "hang", "malformed", "stream_error"])
async def test_a_graph_fails_as_unavailable_when_an_answer_breaks_off(
    fake: FakeModel, model: BaseChatModel, kind: FaultKind
) -> None:
    fake.script = Script(tokens_per_second=100, faults=[Fault(kind=kind, after_tokens=3)])
    texts: list[str] = []
    with pytest.raises(ModelUnavailable):
        await streamed(graph_of(model), texts)
    assert ECHO.startswith("".join(texts))
    assert "".join(texts) == "".join(echo_tokens("hello")[:3])


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(accepted_keys=set()), ModelUnavailable),
        (Script(faults=[Fault(kind="bad_request")]), ModelRejected),
        (Script(faults=[Fault(kind="server_error", times=99)]), ModelUnavailable),
    ],
)
async def test_a_graph_fails_with_our_error_when_the_endpoint_refuses(
    fake: FakeModel, model: BaseChatModel, script: Script, error: type[SlipwayError]
) -> None:
    fake.script = script
    with pytest.raises(error):
        await streamed(graph_of(model))


async def test_the_fallback_answers_a_graph_with_its_own_name(fake: FakeModel, model: BaseChatModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", model="fake-1", times=99)])
    answer = (await graph_of(model).ainvoke(QUESTION))["messages"][-1]
    assert (answer.text, answer.response_metadata["model_name"]) == (ECHO, "spare")


async def test_cancelling_a_graph_closes_the_connection_to_the_model(fake: FakeModel, model: BaseChatModel) -> None:
    fake.script = Script(token_count=10_000, tokens_per_second=100)
    task = asyncio.create_task(streamed(graph_of(model)))
    request = await fake.request(0)
    await request.started.wait()
    task.cancel()
    await asyncio.wait_for(request.ended.wait(), 2)
    assert request.disconnected


@pytest.mark.parametrize("disable_streaming", [False, True])
async def test_structured_output_goes_through_the_reader_too(
    fake: FakeModel, client: Client, model: BaseChatModel, disable_streaming: bool
) -> None:
    fake.script = Script(tokens=['{"name": "RAG",', ' "certain": true}'], faults=[Fault(kind="server_error")])
    model.disable_streaming = disable_streaming
    assert await model.with_structured_output(Route).ainvoke("hello") == Route(name="RAG", certain=True)
    assert client.statuses == ["server_error", "ok"]
    wanted = fake.requests[1].payload["response_format"]
    assert (wanted["type"], wanted["json_schema"]["name"], wanted["json_schema"]["strict"]) == ("json_schema", "Route", True)
    assert fake.requests[1].payload["stream"] is not disable_streaming


@pytest.mark.parametrize("method", ["json_mode", "json_schema"])
async def test_structured_output_by_a_plain_schema_or_json_mode_works(fake: FakeModel, model: BaseChatModel, method: str) -> None:
    fake.script = Script(tokens=['{"name": "RAG", "certain": true}'])
    answer = await model.with_structured_output(Route.model_json_schema(), method=method).ainvoke("hello")
    assert answer == {"name": "RAG", "certain": True}


async def test_a_plain_function_as_node_may_call_the_model(fake: FakeModel, client: Client, model: BaseChatModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error")])

    def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_edge(START, "agent")
    assert await streamed(graph.compile()) == ECHO
    assert client.statuses == ["server_error", "ok"]


@pytest.mark.parametrize("disable_streaming", [False, True])
async def test_a_blocking_call_works_in_a_thread_and_is_refused_on_the_loop(
    model: BaseChatModel, disable_streaming: bool
) -> None:
    model.disable_streaming = disable_streaming
    answer = await asyncio.to_thread(model.invoke, "hello")
    assert isinstance(answer, AIMessage)
    assert answer.text == ECHO
    with pytest.raises(RuntimeError, match="ainvoke"):
        model.invoke("hello")


async def test_open_models_gives_each_role_its_model(fake: FakeModel) -> None:
    counts: list[tuple[str, str]] = []
    settings = model_settings(fake, cheap_model="fake-small", embedding_model="fake-embed")
    async with open_models(settings, lambda *count: counts.append(count)) as models:
        await models.chat.ainvoke("hello")
        await models.cheap.ainvoke("hello")
        assert models.ping
        await models.ping()
        assert models.embeddings
        await models.embeddings.aembed_query("hello")
    assert counts == [("fake-1", "ok"), ("fake-small", "ok"), ("fake-embed", "ok")]


async def test_without_a_cheap_model_the_chat_model_does_small_jobs(fake: FakeModel) -> None:
    async with open_models(model_settings(fake)) as models:
        assert models.cheap is models.chat
        assert models.embeddings is None


async def test_the_fallback_of_the_settings_is_used(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", model="fake-1", times=99)])
    async with open_models(model_settings(fake, fallback_model="spare", model_max_retries=0)) as models:
        assert (await models.chat.ainvoke("hello")).text == ECHO
    assert fake.models == ["fake-1", "spare"]


async def test_embeddings_come_in_order_from_batches_of_64(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="rate_limited", retry_after="0")])
    texts = [f"text number {n}" for n in range(130)]
    async with open_models(model_settings(fake, embedding_model="fake-embed")) as models:
        assert models.embeddings
        vectors = await models.embeddings.aembed_documents(texts)
        assert vectors[77] == await models.embeddings.aembed_query(texts[77]) != vectors[78]
        assert await asyncio.to_thread(models.embeddings.embed_query, texts[0]) == vectors[0]
    assert len(vectors) == 130
    assert [len(r.payload["input"]) for r in fake.requests] == [64, 64, 64, 2, 1, 1]
