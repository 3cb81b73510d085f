"""A graph's own ChatOpenAI behaves with our reader as with the stock client: one suite over both."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain.chat_models import init_chat_model
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models import _client_utils
from pydantic import BaseModel, SecretStr
from structlog.testing import capture_logs

from agent_service.agents.chat_model import EndpointChatModel
from agent_service.agents.models import open_models
from agent_service.errors import ModelRejected, ModelUnavailable
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall, echo_tokens
from tests.support.model_client import model_settings

ECHO = "".join(echo_tokens("hello"))
Serving = Callable[[], AbstractAsyncContextManager[None]]


class Route(BaseModel):
    """Where a question goes."""

    name: str
    certain: bool


RAG = {"name": "RAG", "certain": True}


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeModel]:
    made: list[Any] = []

    def make(*args: Any) -> Any:
        made.append(_client_utils._build_async_httpx_client(*args))
        return made[-1]

    # langchain-openai keeps one client for all loops of a process, and closes none.
    monkeypatch.setattr(_client_utils, "_cached_async_httpx_client", make)
    async with FakeModel() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        yield server
        for client in made:
            await client.aclose()


@pytest.fixture(params=["adopted", "stock"])
async def client(fake: FakeModel, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Which client a model that is made now has."""
    switch = "on" if request.param == "adopted" else "off"
    async with open_models(model_settings(fake, adopt_models=switch)):
        yield request.param


@asynccontextmanager
async def adopting(fake: FakeModel, **settings: Any) -> AsyncIterator[list[tuple[str, str]]]:
    counts: list[tuple[str, str]] = []
    async with open_models(model_settings(fake, **settings), lambda *count: counts.append(count)):
        yield counts


def plain(message: AIMessage) -> dict[str, Any]:
    """What a graph sees of an answer; ids and the parts that only say which client it was are left out."""
    dumped = message.model_dump(exclude={"id"})
    for name in ("logprobs", "id", "system_fingerprint", "service_tier", "token_usage", "model_provider"):
        dumped["response_metadata"].pop(name, None)
    return dumped


async def both(fake: FakeModel, script: Callable[[], Script], call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives with our reader, and with the stock client; an error as its type's names and its text."""
    results = []
    for switch in ("on", "off"):
        fake.script = script()
        async with open_models(model_settings(fake, adopt_models=switch, model_max_retries=2)):
            try:
                results.append(await call())
            except Exception as error:
                results.append(error)
    return results[0], results[1]


# The same as with the stock client


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        Script(),
        Script(cached_tokens=1, answers_as="fake-1-2026-01-01"),
        Script(tokens=["Zwölf ", "Boxkämpfer ", "🎉", "\u2028", "\n\n"]),
        Script(tokens=[]),
        Script(finish_reason="length"),
        Script(finish_reason="content_filter"),
        Script(reasoning="I think"),
        Script(refusal="I will not."),
    ],
)
async def test_an_answer_is_the_same(fake: FakeModel, script: Script, streamed: bool) -> None:
    async def call() -> dict[str, Any]:
        model = ChatOpenAI(model="fake-1", streaming=streamed, stream_usage=True)
        return plain(await model.ainvoke("hello"))

    ours, stock = await both(fake, script.model_copy, call)
    thought = ours["additional_kwargs"].pop("reasoning_content", None)  # which the stock client drops
    assert (ours, thought) == (stock, script.reasoning)


@pytest.mark.parametrize("streamed", [True, False])
async def test_tool_calls_are_the_same(fake: FakeModel, streamed: bool) -> None:
    async def call() -> dict[str, Any]:
        model = ChatOpenAI(model="fake-1", streaming=streamed, stream_usage=True, temperature=0.5, max_completion_tokens=7)
        return plain(await model.bind_tools([add], tool_choice="add", parallel_tool_calls=False).ainvoke("hello"))

    calls = [ToolCall(name="add", arguments={"a": 1, "b": 2}), ToolCall(name="add", arguments={"a": 3, "b": 4})]
    ours, stock = await both(fake, lambda: Script(tool_calls=calls, preface=["Let me ", "see."]), call)
    assert ours == stock
    assert [call["args"] for call in ours["tool_calls"]] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    sent = [{**request.payload} for request in fake.requests]
    assert sent[0] == sent[1]


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        Script(
            tokens=['{"name": "RAG",', ' "certain": true}'],
            tool_calls=[ToolCall(name="Route", arguments={"name": "RAG", "certain": True})],
        ),
        Script(tokens=['{"name": "RAG"}']),
        Script(tokens=['{"name": "RAG"'], finish_reason="length"),
        Script(tokens=["no JSON"]),
        Script(tokens=[], refusal="I will not."),
    ],
)
async def test_structured_output_is_the_same(fake: FakeModel, script: Script, method: Any, include_raw: bool) -> None:
    async def call() -> Any:
        model = ChatOpenAI(model="fake-1").with_structured_output(Route, method=method, include_raw=include_raw)
        found = await model.ainvoke("hello")
        return {**found, "raw": found["raw"].text, "parsing_error": str(found["parsing_error"])[:40]} if include_raw else found

    ours, stock = await both(fake, lambda: script.model_copy(deep=True), call)
    if isinstance(stock, Exception):
        assert isinstance(ours, type(stock)), (ours, stock)
    else:
        assert ours == stock
    assert fake.requests[0].payload.get("response_format") == fake.requests[-1].payload.get("response_format")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the stock client, on the streamed answer
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("schema", [Route, Route.model_json_schema()])
async def test_a_bound_response_format_is_parsed_as_by_the_stock_client(fake: FakeModel, schema: Any, streamed: bool) -> None:
    async def call() -> Any:
        model = ChatOpenAI(model="fake-1", streaming=streamed).with_structured_output(schema, include_raw=True)
        return (await model.ainvoke("hello"))["parsed"]

    ours, stock = await both(fake, lambda: Script(tokens=['{"name": "RAG", "certain": true}']), call)
    assert ours == stock


async def test_several_answers_at_once_are_the_same(fake: FakeModel) -> None:
    async def call() -> list[str]:
        result = await ChatOpenAI(model="fake-1", n=3).agenerate([[HumanMessage("hello")]])
        return [generation.text for generation in result.generations[0]]

    ours, stock = await both(fake, Script, call)
    assert ours == stock == [ECHO] * 3


async def test_pictures_are_sent_as_they_are(fake: FakeModel) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}

    async def call() -> str:
        message = HumanMessage([{"type": "text", "text": "hello"}, picture])
        return (await ChatOpenAI(model="fake-1").ainvoke([message])).text

    ours, stock = await both(fake, Script, call)
    assert ours == stock == ECHO
    assert fake.requests[0].payload["messages"] == fake.requests[1].payload["messages"]
    assert fake.requests[0].payload["messages"][0]["content"][1] == picture


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="rate_limited", retry_after="0", times=9), openai.RateLimitError),
        (Fault(kind="server_error", times=9), openai.InternalServerError),
        (Fault(kind="bad_request"), openai.BadRequestError),
        (Fault(kind="unauthorized", times=9), openai.AuthenticationError),
        (Fault(kind="slow_headers", times=9), openai.APITimeoutError),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_a_graph_catches_of_the_stock_client_it_catches_here(
    fake: FakeModel, fault: Fault, error: type[Exception], streamed: bool
) -> None:
    async def call() -> None:
        await ChatOpenAI(model="fake-1", streaming=streamed, max_retries=1, timeout=0.3).ainvoke("hello")

    ours, stock = await both(fake, lambda: Script(faults=[fault.model_copy()]), call)
    assert isinstance(stock, error), stock
    assert isinstance(ours, error), ours
    assert isinstance(ours, ModelUnavailable | ModelRejected)


async def test_too_long_a_prompt_is_langchains_own_error(fake: FakeModel) -> None:
    async def call() -> None:
        await ChatOpenAI(model="fake-1").ainvoke("hello")

    fault = Fault(kind="bad_request", message="context_length_exceeded: 9 tokens")
    ours, stock = await both(fake, lambda: Script(faults=[fault.model_copy()]), call)
    assert isinstance(stock, ContextOverflowError)
    assert isinstance(ours, ContextOverflowError)
    assert isinstance(ours, ModelRejected)


async def test_max_retries_of_the_model_is_kept(fake: FakeModel) -> None:
    async def call() -> None:
        await ChatOpenAI(model="fake-1", max_retries=0).ainvoke("hello")

    ours, stock = await both(fake, lambda: Script(faults=[Fault(kind="server_error", times=9)]), call)
    assert isinstance(ours, openai.InternalServerError)
    assert isinstance(stock, openai.InternalServerError)
    assert len(fake.requests) == 2


@pytest.mark.usefixtures("fake")
async def test_a_blocking_call_works_in_a_thread(client: str) -> None:
    model = ChatOpenAI(model="fake-1")
    answer = await asyncio.to_thread(model.invoke, "hello")
    texts = await asyncio.to_thread(lambda: [chunk.text for chunk in model.stream("hello")])
    assert answer.text == "".join(texts) == ECHO
    assert isinstance(model, EndpointChatModel) is (client == "adopted")


async def test_a_blocking_call_in_a_coroutine_works_and_is_warned_of() -> None:
    # The fake shares this loop, so it runs in a process of its own.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.fake_model", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        url = (await process.stdout.readline()).decode().strip()
        settings = model_settings(type("Fake", (), {"url": url})())
        async with open_models(settings):
            with capture_logs() as logs:
                assert ChatOpenAI(model="fake-1", base_url=url, api_key=SecretStr("sk-1")).invoke("hello").text == ECHO
        assert [entry["event"] for entry in logs] == ["blocking_model_call"]
    finally:
        process.kill()
        await process.wait()


@pytest.mark.usefixtures("fake")
async def test_a_call_on_a_loop_of_the_graphs_own_works(client: str) -> None:
    model = ChatOpenAI(model="fake-1")

    async def call() -> AIMessage:
        try:
            return await model.ainvoke("hello")
        finally:
            await model.root_async_client.close()

    answer = await asyncio.to_thread(lambda: asyncio.run(call()))
    assert answer.text == ECHO, client


# What adoption adds


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChatOpenAI(model="fake-1"),
        lambda: ChatOpenAI(model="fake-1", api_key=SecretStr("sk-1")),
        lambda: init_chat_model("openai:fake-1"),
        lambda: init_chat_model("fake-1", model_provider="openai", temperature=0),
        lambda: ChatOpenAI(model="fake-1").bind_tools([add]),
        lambda: ChatOpenAI(model="fake-1").model_copy(),
    ],
)
async def test_the_usual_ways_to_make_a_model_are_adopted(fake: FakeModel, make: Callable[[], Any]) -> None:
    fake.script = Script(faults=[Fault(kind="rate_limited", retry_after="0", times=2)])
    async with adopting(fake) as counts:
        assert (await make().ainvoke("hello")).text == ECHO
    assert counts == [("fake-1", "rate_limited"), ("fake-1", "rate_limited"), ("fake-1", "ok")]


async def test_a_graphs_own_model_falls_back_and_is_passed_over_while_it_is_down(fake: FakeModel) -> None:
    fake.script = Script(faults=[Fault(kind="server_error", model="fake-1", times=99)])
    async with adopting(fake, fallback_model="spare", model_max_retries=0):
        model = ChatOpenAI(model="fake-1")
        assert (await model.ainvoke("hello")).response_metadata["model_name"] == "spare"
        assert (await ChatOpenAI(model="fake-1").ainvoke("hello")).text == ECHO
    assert fake.models == ["fake-1", "spare", "spare"]


@pytest.mark.parametrize("responses", [False, True])
async def test_keys_rotate_under_a_graphs_own_model(
    fake: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, responses: bool
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    (tmp_path / "current").write_text("sk-old")
    async with adopting(fake, openai_api_key=None, openai_key_dir=tmp_path):
        model = ChatOpenAI(model="fake-1", use_responses_api=responses, max_retries=0)
        for key in ("sk-old", "sk-new"):
            (tmp_path / "next").write_text(key)
            (tmp_path / "next").replace(tmp_path / "current")
            await asyncio.gather(model.ainvoke("hello"), return_exceptions=responses)  # the fake has no Responses API
            assert fake.keys[-1] == key
    assert "OPENAI_API_KEY" not in os.environ


@pytest.mark.parametrize(
    "own",
    [
        {"api_key": SecretStr("sk-of-the-graph")},
        {"base_url": "http://127.0.0.1:9/v1"},
        {"default_headers": {"X-Team": "blue"}},
        {"organization": "org-1"},
        {"include_response_headers": True},
        {"api_key": lambda: "sk-by-callable"},
        {"http_async_client": openai.DefaultAsyncHttpxClient()},
    ],
)
async def test_a_model_that_names_its_own_client_keeps_it(fake: FakeModel, own: dict[str, Any]) -> None:
    async with adopting(fake):
        model = ChatOpenAI(model="fake-1", **own)
        assert type(model) is ChatOpenAI
        assert isinstance(model.root_async_client, openai.AsyncOpenAI)
        if "base_url" not in own:
            assert (await model.ainvoke("hello")).text == ECHO
            assert fake.keys == [own["api_key"].get_secret_value() if isinstance(own.get("api_key"), SecretStr) else fake.keys[0]]


async def test_other_providers_and_models_made_outside_keep_their_client(fake: FakeModel) -> None:
    before = ChatOpenAI(model="fake-1")
    async with adopting(fake):
        azure = AzureChatOpenAI(azure_endpoint=fake.url, api_version="2026-01-01", api_key=SecretStr("sk-1"))
        assert type(azure) is AzureChatOpenAI
    after = ChatOpenAI(model="fake-1")
    assert [type(model) for model in (before, after)] == [ChatOpenAI, ChatOpenAI]


async def test_services_of_one_process_may_end_in_any_order(fake: FakeModel) -> None:
    first, second = adopting(fake), adopting(fake)
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    assert isinstance(ChatOpenAI(model="fake-1"), EndpointChatModel)
    await second.__aexit__(None, None, None)
    assert type(ChatOpenAI(model="fake-1")) is ChatOpenAI


async def _changed(*_: Any, **__: Any) -> Any:
    raise AttributeError("async_client")


async def _answers_something(*_: Any, **__: Any) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage("by another way"))])


async def _streams_nothing(*_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
    return
    yield


@pytest.mark.parametrize(
    ("method", "other"),
    [("_agenerate", _changed), ("_agenerate", _answers_something), ("_astream", _streams_nothing)],
)
async def test_without_the_seam_graphs_have_stock_clients_and_one_line_says_so(
    fake: FakeModel, monkeypatch: pytest.MonkeyPatch, method: str, other: Any
) -> None:
    monkeypatch.setattr(EndpointChatModel, method, other)
    with capture_logs() as logs:
        async with adopting(fake):
            models = [ChatOpenAI(model="fake-1") for _ in range(3)]
            assert [type(model) for model in models] == [ChatOpenAI] * 3
            assert (await models[0].ainvoke("hello")).text == ECHO
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["models_not_adopted"]
