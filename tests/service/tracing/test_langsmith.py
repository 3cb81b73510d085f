import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import langsmith
import pytest
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AnyMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from structlog.testing import capture_logs

from agent_service.settings import Settings, load_settings
from agent_service.tracing import langsmith as tracing_langsmith
from agent_service.tracing.langsmith import FLUSH_SECONDS, LangSmith, open_langsmith, redacted
from tests.service.api.conftest import plain_service
from tests.support.fake_langsmith import FakeLangSmith, fake_langsmith
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.fake_script import ToolCall as ScriptedCall

QUESTION = "How much did ZEBRAFISH cost?"
ARGUMENT = "zebrafish-argument"
FOUND = "zebrafish-found-in-the-ledger"
ANSWER = "The ZEBRAFISH cost 42."
get_env_var: Any = langsmith.utils.get_env_var  # its annotation hides that it is a cache
CONTENT = [QUESTION, ARGUMENT, FOUND, ANSWER, "zebra"]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


@tool
def look_up(what: str) -> str:
    """Looks it up."""
    if what == "break":
        raise RuntimeError(f"broken by {ARGUMENT}")
    return FOUND


@langsmith.traceable(name="helper")
def helper(text: str) -> str:
    return text.upper()


def make_graph(*, argument: str = ARGUMENT) -> CompiledStateGraph[Any, Any, Any, Any]:
    calls = [ToolCall(name="look_up", args={"what": argument}, id="call-1")]
    model = FakeMessagesListChatModel(responses=[AIMessage("", tool_calls=calls), AIMessage(ANSWER)])

    async def agent(state: State) -> dict[str, Any]:
        helper(str(state["messages"][0].content))
        return {"messages": [await model.ainvoke(state["messages"])]}

    def after(state: State) -> str:
        return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END

    graph = StateGraph(State)
    graph.add_node("agent", agent)
    graph.add_node("tools", ToolNode([look_up], handle_tool_errors=False))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", after, ["tools", END])
    graph.add_edge("tools", "agent")
    return graph.compile()


async def run(langsmith_: LangSmith | None, graph: CompiledStateGraph[Any, Any, Any, Any] | None = None) -> uuid.UUID:
    """One run as the service makes it, in a task of its own."""
    run_id = uuid.uuid4()
    config = RunnableConfig(
        run_id=run_id,
        callbacks=[langsmith_.tracer()] if langsmith_ else [],
        metadata={"note": QUESTION, "thread_id": "s-1"},
    )

    async def consume() -> None:
        async for _ in (graph or make_graph()).astream({"messages": [("user", QUESTION)]}, config, stream_mode="messages"):
            pass

    await asyncio.create_task(consume())
    return run_id


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeLangSmith]:
    with fake_langsmith(compression=request.param) as fake:
        yield fake


@pytest.fixture(autouse=True)
def automatic_tracing_asked_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a user of LangSmith has in the environment; langchain reads it on its own."""
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    get_env_var.cache_clear()
    yield
    get_env_var.cache_clear()


def settings_for(fake: FakeLangSmith, **more: str) -> Settings:
    return load_settings(
        {
            "AUTH": "disabled",
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_ENDPOINT": fake.url,
            "LANGSMITH_API_KEY": "a test key",
            **more,
        }
    )


@asynccontextmanager
async def opened(fake: FakeLangSmith, **more: str) -> AsyncIterator[LangSmith]:
    async with open_langsmith(settings_for(fake, **more)) as langsmith_:
        assert langsmith_ is not None
        yield langsmith_


def names(tree: list[dict[str, Any]]) -> list[str]:
    return [run["name"] for run in tree]


async def test_a_run_is_one_tree_under_our_run_id(server: FakeLangSmith) -> None:
    async with opened(server) as langsmith_:
        run_id = await run(langsmith_)
    tree = server.tree(run_id)
    assert tree[0]["id"] == str(run_id)
    assert tree[0].get("parent_run_id") is None
    ids = {node["id"] for node in tree}
    assert all(node["parent_run_id"] in ids for node in tree[1:])
    assert {"look_up", "FakeMessagesListChatModel", "agent", "tools", "helper"} <= set(names(tree))
    assert all(node.get("end_time") for node in tree)
    assert tree[0]["session_name"] == "slipway"
    assert len(tree) == len(server.runs), "every run that arrived is part of the tree"
    assert len(server.posts) == len(set(server.posts)), "no run arrived twice"


async def test_no_content_leaves_by_default(server: FakeLangSmith) -> None:
    async with opened(server) as langsmith_:
        run_id = await run(langsmith_)
    assert server.tree(run_id)
    for text in CONTENT:
        assert text.lower() not in server.sent().lower()


async def test_a_question_to_the_service_is_one_redacted_tree_and_its_rating_lands_on_it(database_url: str) -> None:
    script = Script(tokens=[ANSWER], tool_calls=[ScriptedCall(name="lookup", arguments={"query": ARGUMENT})])
    with fake_langsmith() as server:
        env = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": server.url, "LANGSMITH_API_KEY": "a test key"}
        async with FakeModel(script) as model, plain_service(database_url, model, **env) as service, service.client() as client:
            run = (await client.post("/chat", json={"question": QUESTION, "session_id": "s-1"})).json()
            await client.post("/feedback", json={"run_id": run["run_id"], "score": 1})
    tree = server.tree(uuid.UUID(run["run_id"]))
    assert (tree[0]["id"], tree[0]["name"], tree[0].get("parent_run_id")) == (run["run_id"], "turn", None)
    assert [node["name"] for node in tree if node["run_type"] in {"llm", "tool"}] == [
        "EndpointChatModel", "lookup", "EndpointChatModel",
    ]  # fmt: skip
    assert len(tree) == len(server.runs), "every run that arrived is part of the tree"
    assert [text for text in CONTENT if text.lower() in server.sent().lower()] == []
    [feedback] = server.feedback.values()
    assert (feedback["run_id"], feedback["score"]) == (run["run_id"], 1)


async def test_what_is_no_content_is_kept(server: FakeLangSmith) -> None:
    async with opened(server) as langsmith_:
        run_id = await run(langsmith_)
    by_name = {node["name"]: node for node in server.tree(run_id)}
    assert by_name["agent"]["extra"]["metadata"]["langgraph_node"] == "agent"
    assert by_name["agent"]["extra"]["metadata"]["thread_id"] == "s-1"
    assert by_name["look_up"]["run_type"] == "tool"


async def test_content_is_sent_when_asked_for(server: FakeLangSmith) -> None:
    async with opened(server, LANGSMITH_HIDE_CONTENT="false") as langsmith_:
        run_id = await run(langsmith_)
    assert server.tree(run_id)
    for text in CONTENT:
        assert text in server.sent() or text == "zebra"


async def test_an_error_arrives_as_its_class_only(server: FakeLangSmith) -> None:
    async with opened(server) as langsmith_:
        with pytest.raises(RuntimeError):
            await run(langsmith_, make_graph(argument="break"))
    by_name = {node["name"]: node for node in server.runs.values()}
    assert by_name["look_up"]["error"] == "RuntimeError"
    assert ARGUMENT not in server.sent()


async def test_a_rating_arrives_on_the_run_and_a_second_one_replaces_it(server: FakeLangSmith) -> None:
    async with opened(server) as langsmith_:
        run_id = await run(langsmith_)
        await langsmith_.send_feedback(run_id, 1)
        await langsmith_.send_feedback(run_id, 0, "wrong currency")
    [feedback] = server.feedback.values()
    assert (feedback["run_id"], feedback["score"], feedback["comment"]) == (str(run_id), 0, "wrong currency")


async def test_a_rating_of_an_unknown_project_is_logged_not_raised(server: FakeLangSmith) -> None:
    with capture_logs() as logs:
        async with opened(server) as langsmith_:
            await langsmith_.send_feedback(uuid.uuid4(), 1)
    assert [line["event"] for line in logs] == ["langsmith_feedback_failed"]


@pytest.fixture
def flush_seconds(monkeypatch: pytest.MonkeyPatch) -> float:
    """For which the end waits."""
    monkeypatch.setattr(tracing_langsmith, "FLUSH_SECONDS", FLUSH_SECONDS / 4)
    return FLUSH_SECONDS / 4


@pytest.mark.parametrize("fault", ["error", "hang"])
async def test_a_langsmith_that_is_down_costs_a_run_nothing_and_the_end_little(fault: Any, flush_seconds: float) -> None:
    with fake_langsmith(fault=fault) as server:
        started = time.monotonic()
        async with opened(server) as langsmith_:
            await run(langsmith_)
            await langsmith_.send_feedback(uuid.uuid4(), 1)
            assert time.monotonic() - started < 4
            server.wait_for(lambda: server.requests)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < flush_seconds + 4


async def test_an_address_where_nothing_listens_costs_a_run_nothing_and_no_key_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with fake_langsmith() as server:
        pass
    started = time.monotonic()
    async with opened(server, LANGSMITH_API_KEY="qqqqqkkkkkkkkkkzz") as langsmith_:
        await run(langsmith_)
        assert time.monotonic() - started < 4
    assert "Failed to get info" in caplog.text
    assert "qqqqq" not in caplog.text


async def test_the_loop_runs_on_while_the_end_waits(flush_seconds: float) -> None:
    with fake_langsmith(fault="hang") as server:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.05)
                beats += 1

        async with opened(server) as langsmith_:
            await run(langsmith_)
            before, beating = beats, asyncio.create_task(beat())
        assert beats - before > flush_seconds / 0.05 / 4
        beating.cancel()


async def test_nothing_is_traced_when_langsmith_is_off_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_langsmith() as server:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
        get_env_var.cache_clear()
        async with open_langsmith(load_settings({"AUTH": "disabled", "LANGSMITH_TRACING": "false"})) as langsmith_:
            assert langsmith_ is None
            await run(None)
            assert not langsmith.utils.tracing_is_enabled()
        assert langsmith.utils.tracing_is_enabled(), "the environment counts again: the test can tell"
        assert server.requests == []


def test_redaction_keeps_only_known_fields_of_what_may_hold_content() -> None:
    kept = redacted(
        {
            "name": "node",
            "inputs": {"q": "secret"},
            "outputs": {"a": "secret"},
            "error": "pkg.Broken('secret')\n\nTraceback: secret",
            "events": [{"name": "retry", "time": "t", "kwargs": {"result": "secret"}}],
            "extra": {"metadata": {"ls_provider": "x", "note": "secret"}, "invocation_params": {"stop": "secret"}},
            "attachments": {"secret": ("text/plain", b"secret")},
            "serialized": {"kwargs": {"prompt": "secret"}},
            "tags": ["seq:step:1"],
        }
    )
    assert "secret" not in str(kept)
    assert kept == {
        "name": "node",
        "inputs": {},
        "outputs": {},
        "error": "pkg.Broken",
        "events": [{"name": "retry", "time": "t"}],
        "extra": {"runtime": {}, "metadata": {"ls_provider": "x"}},
        "tags": ["seq:step:1"],
    }


def test_an_error_without_a_class_name_is_still_redacted() -> None:
    assert redacted({"error": "'secret'"})["error"] == "error"
