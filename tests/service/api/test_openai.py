"""The OpenAI wire, by OpenAI's own client."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, echo_tokens
from tests.support.service import JWT_SECRET, RunningService, running_service
from tests.support.tokens import bearer

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How far is the moon?"}]
ANSWER = "".join(echo_tokens("How far is the moon?"))


@pytest.fixture
async def api(service: RunningService) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_a_completion_has_text_reason_and_usage(api: openai.AsyncOpenAI) -> None:
    completion = await api.chat.completions.create(model="slipway", messages=QUESTION, temperature=0.2)

    assert completion.choices[0].message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == (5, 50, 55)
    assert completion.id.startswith("chatcmpl-")
    assert completion.created > 1_700_000_000


async def test_a_stream_has_the_same_text_and_usage_when_asked_for(api: openai.AsyncOpenAI) -> None:
    stream = await api.chat.completions.create(
        model="slipway", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert said(chunks) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 55
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_has_no_usage_chunk_unless_asked_for(api: openai.AsyncOpenAI) -> None:
    stream = await api.chat.completions.create(model="slipway", messages=QUESTION, stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in [c async for c in stream])


async def test_the_blocking_client_works_too(service: RunningService) -> None:
    def ask() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as client:
            whole = client.chat.completions.create(model="slipway", messages=QUESTION)
            with client.chat.completions.create(model="slipway", messages=QUESTION, stream=True) as stream:
                return whole.choices[0].message.content, said(list(stream))

    assert await asyncio.to_thread(ask) == (ANSWER, ANSWER)


async def test_without_a_user_the_messages_are_the_history(api: openai.AsyncOpenAI, model: FakeModel) -> None:
    history: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "tw"}, {"type": "text", "text": "o"}]},
    ]
    completion = await api.chat.completions.create(model="slipway", messages=history)

    assert completion.choices[0].message.content == "".join(echo_tokens("two"))
    told = model.requests[-1].payload["messages"]
    assert [(m["role"], m["content"]) for m in told] == [
        ("system", "Be brief."), ("user", "one"), ("assistant", "1"), ("user", "two"),
    ]  # fmt: skip


async def test_with_a_session_the_agent_remembers_by_itself(api: openai.AsyncOpenAI, model: FakeModel) -> None:
    for text in ("one", "two"):
        await api.chat.completions.create(
            model="slipway", messages=[{"role": "user", "content": text}], metadata={"session_id": "ann's first"}
        )

    told = [m["content"] for m in model.requests[-1].payload["messages"]]
    assert told == ["one", "".join(echo_tokens("one")), "two"]


async def test_stateless_calls_stay_out_of_the_list_of_sessions(api: openai.AsyncOpenAI, client: httpx.AsyncClient) -> None:
    await api.chat.completions.create(model="slipway", messages=QUESTION)
    assert (await client.get("/sessions")).json()["sessions"] == []
    assert (await client.get("/usage?group_by=model")).json()["rows"][0]["runs"] == 1


async def test_the_agent_is_the_one_model(api: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in api.models.list()] == ["slipway"]


async def test_an_idempotency_key_pays_once(api: openai.AsyncOpenAI, model: FakeModel) -> None:
    for _ in range(2):
        await api.chat.completions.create(model="slipway", messages=QUESTION, extra_headers={"Idempotency-Key": "k"})
    assert len([r for r in model.requests if r.path == "/v1/chat/completions"]) == 1


async def test_a_wrong_request_is_the_clients_own_error_class(api: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        await api.chat.completions.create(model="slipway", messages=[{"role": "assistant", "content": "x"}])
    assert (caught.value.code, caught.value.param) == ("invalid_request", "messages")
    with pytest.raises(openai.UnprocessableEntityError) as tools:
        await api.chat.completions.create(model="slipway", messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}])
    assert tools.value.param == "messages"


async def test_a_refused_key_is_the_clients_own_error_class(database_url: str, model: FakeModel) -> None:
    async with (
        plain_service(database_url, model, AUTH="required", JWT_SECRET=JWT_SECRET) as service,
        openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as stranger,
    ):
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
        token = bearer("alice")["Authorization"].removeprefix("Bearer ")
        assert [m.id async for m in stranger.with_options(api_key=token).models.list()] == ["slipway"]


async def test_a_failed_run_is_an_error_whole_and_streamed(api: openai.AsyncOpenAI, model: FakeModel) -> None:
    model.script = Script(faults=[Fault(kind="bad_request", times=2)])
    with pytest.raises(openai.InternalServerError) as whole:
        await api.chat.completions.create(model="slipway", messages=QUESTION)
    assert (whole.value.status_code, whole.value.code) == (502, "model_rejected")

    stream = await api.chat.completions.create(model="slipway", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError) as streamed:
        _ = [chunk async for chunk in stream]
    assert streamed.value.code == "model_rejected"


async def test_an_interrupt_says_how_to_decide(database_url: str) -> None:
    async with (
        running_service(database_url, AGENT_GRAPH="tests.support.graphs:asking") as service,
        openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as api,
    ):
        ask: dict[str, Any] = {"model": "slipway", "messages": QUESTION}
        whole = await api.chat.completions.create(**ask, metadata={"session_id": "ann"})
        assert "/resume" in (whole.choices[0].message.content or "")
        assert "/resume" in said([c async for c in await api.chat.completions.create(**ask, stream=True)])
        with pytest.raises(openai.ConflictError) as waiting:
            await api.chat.completions.create(**ask, metadata={"session_id": "ann"})
        assert waiting.value.code == "session_interrupted"


async def test_a_timeout_is_504(database_url: str) -> None:
    async with (
        running_service(database_url, AGENT_GRAPH="tests.support.graphs:endless", MAX_TURN_SECONDS="0.2") as service,
        openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as api,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await api.chat.completions.create(model="slipway", messages=QUESTION)
        assert (caught.value.status_code, caught.value.code) == (504, "timeout")
