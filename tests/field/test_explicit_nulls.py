"""Clients that send every field they know: https://github.com/ggml-org/llama.cpp/issues/25515, koboldcpp#1503,
lmstudio-bug-tracker#261 and mistral-common#324.

`n: null`, `stream: null`, `stream_options.include_usage: null`, `model: null` and `user: ""` were refused, and so was a history
with an assistant's tool call (`content: null`), a refusal, or an image. Siblings: every other optional field as null, empty
arrays, unknown fields, tool results, parts of other kinds, and what must stay refused.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from tests.field.openai_api import Api, assistant, openai_api, user
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": None}}


def build(_: Any) -> StateGraph[MessagesState]:
    """Says which messages it was given: kind, text, calls and kinds of parts."""

    async def tell(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(" | ".join(map(shown, state["messages"])))]}

    return StateGraph(MessagesState).add_node("tell", tell).add_edge(START, "tell")


def shown(message: Any) -> str:
    calls = "".join(f" calls {call['name']}" for call in getattr(message, "tool_calls", []))
    content = message.content if isinstance(message.content, str) else "+".join(part["type"] for part in message.content)
    return f"{message.type}:{content}{calls}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(admin_url: str) -> AsyncIterator[Api]:
    """One for all: what is said is in each request."""
    with fresh_database(admin_url) as url:
        async with openai_api(url, f"{__name__}:build") as opened:
            yield opened


NULL_FIELDS = [
    "model", "n", "stream", "stream_options", "user", "metadata", "temperature", "top_p", "stop", "max_tokens",
    "max_completion_tokens", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
    "response_format", "seed", "service_tier", "store", "tools", "tool_choice", "parallel_tool_calls", "functions",
    "function_call", "modalities", "audio", "prediction", "reasoning_effort", "verbosity", "web_search_options",
    "prompt_cache_key", "safety_identifier", "something_of_next_year",
]  # fmt: skip


async def test_null_is_the_default_of_every_optional_field(api: Api) -> None:
    for some in (NULL_FIELDS[n : n + 6] for n in range(0, len(NULL_FIELDS), 6)):
        answers = await asyncio.gather(*(api.says(messages=[user("hi")], **{name: None}) for name in some))
        assert answers == ["human:hi"] * len(some), some
    assert await api.says(messages=[user("hi")], **dict.fromkeys(NULL_FIELDS)) == "human:hi"


@pytest.mark.parametrize(
    "field",
    [
        {"user": ""},
        {"user": "x" * 5_000},
        {"user": "\u0000"},
        {"stream_options": {}},
        {"metadata": {}},
        {"tools": []},
        {"stop": []},
        {"stream_options": {"include_usage": None}},
        {"stream_options": {"include_usage": None, "include_obfuscation": None}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": None}}], "tool_choice": "auto"},
        {"max_completion_tokens": 5, "parallel_tool_calls": False, "reasoning_effort": "low"},
        {"metadata": {"a": None, "b": 1}},
        {"response_format": {"type": "text"}},
        {"logit_bias": {}},
        {"anything": {"deep": [None]}},
        {"n": 1},
        {"model": ""},
    ],
)
async def test_empty_and_unknown_fields_change_nothing(api: Api, field: dict[str, Any]) -> None:
    assert await api.says(messages=[user("hi")], **field) == "human:hi"


async def test_a_null_in_stream_options_streams_without_usage(api: Api) -> None:
    answer = await api.post(messages=[user("hi")], stream=True, stream_options={"include_usage": None})
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert '"usage"' not in answer.text


@pytest.mark.parametrize(
    ("before", "given"),
    [
        (
            [assistant(None, tool_calls=[CALL]), {"role": "tool", "tool_call_id": "call_1", "content": "noon"}],
            "ai: calls clock | tool:noon | ",
        ),
        (
            [
                assistant("Let me see.", tool_calls=[CALL]),
                {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "noon"}]},
            ],
            "ai:Let me see. calls clock | tool:noon | ",
        ),
        ([assistant(None, tool_calls=[CALL])], ""),
        ([assistant("Let me see.", tool_calls=[CALL])], "ai:Let me see. | "),
        ([{"role": "tool", "tool_call_id": "call_1", "content": "of nothing"}], ""),
        ([assistant(None)], ""),
        ([{"role": "assistant"}], ""),
        ([assistant([])], ""),
        ([assistant("", tool_calls=[])], ""),
        (
            [assistant("Hello.", tool_calls=None, function_call=None, refusal=None, audio=None, annotations=[], name=None)],
            "ai:Hello. | ",
        ),
        ([assistant(None, refusal="I will not.")], "ai:I will not. | "),
        ([assistant([{"type": "refusal", "refusal": "I will not."}])], "ai:I will not. | "),
        ([assistant([{"type": "text", "text": "Well, "}, {"type": "refusal", "refusal": "no."}])], "ai:Well, no. | "),
        ([{"role": "developer", "content": "Be brief.", "name": "ops"}], "system:Be brief. | "),
        ([{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}], "system:Be brief. | "),
        ([{"role": "system", "content": ""}, {"role": "system", "content": None}], ""),
        ([{"role": "user", "content": "Hello", "name": "ann"}], "human:Hello | "),
    ],
)
async def test_a_history_of_any_client_is_taken(api: Api, before: list[dict[str, Any]], given: str) -> None:
    assert await api.says(messages=[*before, user("hi")]) == f"{given}human:hi"


async def test_an_image_is_refused_in_a_plain_sentence_where_the_graph_reads_text_only(api: Api) -> None:
    answer = await api.post(messages=[user("hi"), assistant("Yes?"), user([{"type": "text", "text": "What is this?"}, PICTURE])])
    assert answer.status_code == 422
    assert answer.json()["detail"] == "messages.2.content.1: this agent reads text only; leave the image out"


async def test_an_image_reaches_a_graph_that_takes_them(database_url: str) -> None:
    parts = [{"type": "text", "text": "What is this?"}, PICTURE]
    async with openai_api(database_url, f"{__name__}:build", ACCEPT_IMAGES="true") as api:
        assert await api.says(messages=[user(parts)]) == "human:text+image_url"
        assert (
            await api.says(messages=[user(parts), assistant("A dot."), user("Sure?")])
            == "human:text+image_url | ai:A dot. | human:Sure?"
        )
        completion = await api.client.chat.completions.create(model="slipway", messages=[user(parts)])
        assert completion.choices[0].message.content == "human:text+image_url"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}])], "messages.0.content"),
        ([user([{"type": "file", "file": {"file_id": "f"}}])], "messages.0.content"),
        ([user([{"type": "text", "text": "hi"}, {"type": "video_url", "video_url": {"url": "x"}}])], "messages.0.content"),
        ([user([{"text": "hi"}])], "messages.0.content"),
        ([user([None])], "messages.0.content"),
        ([user([{"type": "image_url", "image_url": None}])], "messages.0.content"),
        ([user([{"type": "image_url", "image_url": {"url": None}}])], "messages.0.content"),
        ([user(5)], "messages.0.content"),
        ([user(None)], "messages"),
        ([user("")], "messages"),
        ([user([])], "messages"),
        ([user([PICTURE])], "messages"),
        ([assistant("hi")], "messages"),
        ([{"role": "tool", "tool_call_id": "1", "content": "x"}], "messages"),
        ([{"role": "function", "content": "x"}], "messages.0.role"),
        ([{"role": None, "content": "x"}], "messages.0.role"),
        ([], "messages"),
        (None, "messages"),
        ("hi", "messages"),
        ([None], "messages.0"),
    ],
)
async def test_what_cannot_be_taken_is_named(api: Api, messages: Any, field: str) -> None:
    answer = await api.post(messages=messages)
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"].startswith(field)
    assert answer.json()["detail"].startswith(answer.json()["field"])


async def test_the_real_client_sends_nulls_and_calls(api: Api) -> None:
    given: Any = [assistant(None, tool_calls=[CALL]), {"role": "tool", "tool_call_id": "call_1", "content": "noon"}, user("hi")]
    completion = await api.client.chat.completions.create(
        model="slipway", messages=given, extra_body={"n": None, "stream": None, "user": "", "stop": None, "tools": []}
    )
    assert completion.choices[0].message.content == "ai: calls clock | tool:noon | human:hi"
