"""The attacker is the model's answer: tool calls, reasoning, usage and structured output of any form take linear time.

Through the whole ChatOpenAI, the service's own and a graph's that was adopted; the endpoint is a socket that sends bytes.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from agent_service.agents import completion_format, completion_stream
from agent_service.agents.adopt import adopt
from agent_service.agents.chat_model import chat_model
from agent_service.agents.completion_stream import Answer
from agent_service.agents.endpoint_errors import AttemptFailed
from agent_service.errors import ModelUnavailable
from tests.attack.test_model_endpoint import JSON, STREAM, Endless, client_of
from tests.support.model_client import Client

CHARS = 1_000_000
"""Of arguments in one answer; a hundredth of it, malformed, took langchain half a minute."""

SECONDS = 8.0
"""Wide: these take well under one."""

HOSTILE = {
    "no value": '{"a": ' + "x" * CHARS,
    "an open key": '{"' + "k" * CHARS,
    "an open text": '{"a": "' + "x" * CHARS,
    "an escape that is none": '{"a": "' + "x" * CHARS + "\\x",
    "backslashes": '{"a": "' + "\\" * CHARS,
    "closed and wrong": '{"a": ' + "1," * (CHARS // 2) + "}",
    "open lists": '{"a": ' + "[" * CHARS,
    "nested objects": '{"a":' * (CHARS // 5) + "1" + "}" * (CHARS // 5),
    "300 levels": '{"a":' * 300 + "1" + "}" * 300,
    "many values": '{"a": [' + "1," * (CHARS // 2) + "1]}",
    "many keys": "{" + ",".join(f'"{n}":1' for n in range(CHARS // 10)) + "}",
    "digits": '{"a": ' + "9" * CHARS + "}",
    "a fraction": '{"a": 0.' + "0" * CHARS + "1}",
    "new lines": '{"a": "' + "\n" * CHARS,
    "quotes": '"' * CHARS,
    "brackets of all kinds": "{[}]" * (CHARS // 4),
    "NUL and marks": '{"a": "' + "\0\u202e\u0301" * (CHARS // 9),
}


def delta(said: dict[str, Any], finish: str | None = None) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}) + b"\n\n"


def call(arguments: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    """A piece of a call, and its head where it has an id."""
    name = {"name": "f"} if "id" in fields else {}
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **name}, **fields}]}


def streamed(arguments: str, size: int) -> Iterator[bytes]:
    yield delta({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": ""}}]})
    for at in range(0, len(arguments), size):
        yield delta(call(arguments[at : at + size]))
    yield delta({}, "tool_calls")
    yield b"data: [DONE]\n\n"


def as_json(message: dict[str, Any], **fields: Any) -> list[bytes]:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "", **message}, "finish_reason": "stop"}]
    return [orjson.dumps({"choices": choices, **fields})]


def service_model(client: Client, **_: Any) -> ChatOpenAI:
    model = chat_model("fake-1", client.reader)
    assert isinstance(model, ChatOpenAI)
    return model


def adopted_model(client: Client, **fields: Any) -> ChatOpenAI:
    model = ChatOpenAI(model="fake-1", base_url=client.endpoint.base_url, api_key=SecretStr("sk-1"), **fields)
    adopt(model, client.reader)
    assert type(model) is not ChatOpenAI
    return model


Make = Callable[..., ChatOpenAI]


async def ask(
    pieces: Iterable[bytes], make: Make = adopted_model, head: bytes = STREAM, **fields: Any
) -> tuple[AIMessage, float]:
    """The answer, and the longest time that the loop was held meanwhile, in seconds."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - began)

    async with client_of(Endless(head, iter(pieces))) as client:
        model = make(client, **fields)
        ticking = asyncio.create_task(tick())
        try:
            message = await model.ainvoke("hello")
        finally:
            ticking.cancel()
    assert isinstance(message, AIMessage)
    return message, longest


@pytest.mark.parametrize("make", [service_model, adopted_model])
async def test_arguments_of_any_form_hold_nobody_up(make: Make) -> None:
    worst = (0.0, "")
    for name, arguments in HOSTILE.items():
        message, held = await ask(streamed(arguments, 4_096), make, streaming=True)
        assert len(message.tool_calls) + len(message.invalid_tool_calls) == 1, name
        worst = max(worst, (held, name))
    print(f"{make.__name__}: {len(HOSTILE)} arguments of {CHARS} characters, the loop was held {worst[0]:.2f} s: {worst[1]}")
    assert worst[0] < SECONDS


async def test_whole_answers_with_such_arguments_hold_nobody_up() -> None:
    worst = (0.0, "")
    for name, arguments in HOSTILE.items():
        calls = {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}]}
        message, held = await ask(as_json(calls), head=JSON, streaming=False)
        assert len(message.tool_calls) + len(message.invalid_tool_calls) == 1, name
        worst = max(worst, (held, name))
    print(f"as JSON: the loop was held {worst[0]:.2f} s: {worst[1]}")
    assert worst[0] < SECONDS


def add_up(pieces: Iterable[bytes]) -> float:
    """Seconds that a graph takes which adds up the chunks that it reads, one after another."""
    reader, chunks = Answer(), list[Any]()
    for piece in pieces:
        chunks += reader.feed(piece)
    assert reader.failure is None
    began, whole = time.perf_counter(), AIMessageChunk(content="")
    for chunk in chunks:
        for found in chunk["choices"][0]["delta"].get("tool_calls", ()):
            name, text = found["function"]["name"], found["function"]["arguments"]
            held = {"name": name, "args": text, "id": found["id"], "index": found["index"], "type": "tool_call_chunk"}
            whole += AIMessageChunk(content="", tool_call_chunks=[held])
    assert whole.tool_calls
    return time.perf_counter() - began


def test_a_graph_that_adds_up_chunks_parses_the_arguments_once() -> None:
    """Before, 64 kB in pieces of 4 were parsed 16,000 times."""
    assert add_up(streamed(json.dumps({"a": "x" * 64_000}), 4)) < SECONDS / 4


CALLS = st.lists(
    st.tuples(
        st.text(st.characters(categories=["L"]), min_size=1, max_size=8),
        st.dictionaries(st.text(max_size=4), st.one_of(st.text(max_size=20), st.integers(-9, 9), st.none()), max_size=3),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(calls=CALLS, size=st.integers(1, 9), cut=st.integers(0, 12), one_index=st.booleans())
@example(calls=[("f", {}), ("g", {"a": "\ud83d"[:0]})], size=1, cut=0, one_index=True)
def test_calls_arrive_whole_however_they_were_cut(
    calls: list[tuple[str, dict[str, Any]]], size: int, cut: int, one_index: bool
) -> None:
    """Also where an endpoint numbers all of them 0. Of the last one the end may be missing: it is closed, or called invalid."""
    reader, chunks = Answer(), list[Any]()
    for number, (name, arguments) in enumerate(calls):
        text, index = json.dumps(arguments), 0 if one_index else number
        if number == len(calls) - 1:
            text = text[: len(text) - cut] if cut < len(text) else text
        head = {"index": index, "id": f"call_{number}", "function": {"name": name, "arguments": ""}}
        chunks += reader.feed(delta({"tool_calls": [head]}))
        for at in range(0, len(text), size):
            chunks += reader.feed(delta(call(text[at : at + size], index)))
    chunks += reader.feed(delta({}, "tool_calls") + b"data: [DONE]\n\n")
    found = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [(one["index"], one["id"], one["function"]["name"]) for one in found] == [
        (number, f"call_{number}", name) for number, (name, _) in enumerate(calls)
    ]
    whole = found if cut == 0 else found[:-1]
    assert [json.loads(one["function"]["arguments"]) for one in whole] == [arguments for _, arguments in calls[: len(whole)]]
    assert all(json.loads(one["function"]["arguments"]) is not None for one in found)


@given(text=st.text(st.sampled_from('{}[]",:\\ \n\0u1e-.ntf\u0301\U0001f3f3'), max_size=60))
@settings(max_examples=200, deadline=None)
def test_arguments_are_always_json_of_what_they_were(text: str) -> None:
    parsed = json.loads(completion_format.arguments_of_delta(text) or "{}", strict=False)
    try:
        as_it_is = json.loads(text or "{}", strict=False)
    except ValueError:
        assert isinstance(parsed, dict) or parsed == text
    else:
        assert repr(parsed) == repr(as_it_is)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "more calls than tools": lambda: (delta(call("{}", n, id=f"c{n}")) for n in range(completion_format.MAX_CALLS + 1)),
    "calls in one delta": lambda: iter(
        [delta({"tool_calls": [call("{}", n, id=f"c{n}")["tool_calls"][0] for n in range(20_000)]})]
    ),
    "arguments without an end": lambda: (delta(call("x" * 65_536)) for _ in range(64)),
    "many arguments": lambda: (delta(call("x" * 65_536, n % 100, id=f"c{n % 100}")) for n in range(64)),
    "a function's arguments": lambda: (delta({"function_call": {"arguments": "x" * 65_536}}) for _ in range(64)),
    "a long id": lambda: iter([delta(call("{}", id="i" * 1_000_000))]),
    "a long name": lambda: iter([delta({"tool_calls": [{"index": 0, "function": {"name": "n" * 2_000}}]})]),
    "a name without an end": lambda: (delta({"function_call": {"name": "n" * 200}}) for _ in range(9_000)),
    "a call that is text": lambda: iter([delta({"tool_calls": ["f"]})]),
    "calls that are a number": lambda: iter([delta({"tool_calls": 7})]),
    "deep arguments": lambda: iter([b'data: {"choices": [{"delta": {"tool_calls": [' + b"[" * 99 + b"]" * 99 + b"]}}]}\n\n"]),
    "an index that is a list": lambda: iter([delta(call("{}", index=[[1]]))]),  # type: ignore[arg-type]  # hostile
    "many choices": lambda: iter([b'data: {"choices": [' + b"{}," * 500_000 + b"{}]}\n\n"]),
    "deep usage": lambda: iter([b'data: {"choices": [], "usage": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}\n\n"]),
    "deep content": lambda: iter([b'data: {"choices": [{"delta": {"content": ' + b"[" * 99 + b"]" * 99 + b"}}]}\n\n"]),
    "parts without an end": lambda: (delta({"content": [{"type": "thinking", "index": n}] * 100}) for n in range(300)),
    "content that is a number": lambda: iter([delta({"content": 7})]),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_what_is_too_much_ends_the_call_before_langchain_sees_it(name: str) -> None:
    pieces = [*FLOODS[name](), delta({}, "tool_calls"), b"data: [DONE]\n\n"]
    with pytest.raises(ModelUnavailable):
        await ask(pieces, streaming=True)


def test_an_answer_has_so_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_stream, "MAX_EVENTS", 100)
    reader = Answer()
    reader.feed(delta({"reasoning_content": "x"}) * 101)
    assert isinstance(reader.failure, AttemptFailed)


STRANGE_USAGE: list[Any] = [
    {"prompt_tokens": 10, "completion_tokens": [[1]], "total_tokens": {"a": [1]}},
    {"prompt_tokens": 10, "prompt_tokens_details": 7, "completion_tokens_details": {"reasoning_tokens": [{}]}},
    {"prompt_tokens": -(2**60), "completion_tokens": 2**60, "total_tokens": "many"},
    {"prompt_tokens": True, "completion_tokens": 1.5, **{str(n): [n] for n in range(10_000)}},
    [[1]] * 1_000,
    "many",
]


@pytest.mark.parametrize("usage", STRANGE_USAGE, ids=lambda usage: repr(usage)[:40])
@pytest.mark.parametrize("streams", [True, False])
async def test_usage_of_any_form_becomes_counts(usage: Any, streams: bool) -> None:
    fields = {"usage": usage, "model": "m" * 100_000, "service_tier": ["flex"], "system_fingerprint": "s" * 100_000}
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}], **fields}
    pieces = [b"data: " + orjson.dumps(chunk) + b"\n\n", b"data: [DONE]\n\n"]
    if not streams:
        pieces = as_json({"content": "a"}, **fields)
    message, _ = await ask(pieces, head=STREAM if streams else JSON, streaming=streams)
    counts = message.usage_metadata or {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    assert all(0 <= counts[key] <= completion_format.MAX_TOKENS for key in ("input_tokens", "output_tokens", "total_tokens"))
    assert len(message.response_metadata["model_name"]) == completion_format.MAX_NAME_CHARS


async def test_thousands_of_deltas_of_every_kind_take_linear_time() -> None:
    """Log probabilities, reasoning, parts and repeated reasons to stop: langchain would merge each with all before it."""

    def flood(count: int) -> Iterator[bytes]:
        for n in range(count):
            choice = {
                "index": 0,
                "delta": {"content": "a", "reasoning_content": "b", "id": "x" * 50},
                "finish_reason": "stop" if n else None,
                "logprobs": {"content": [{"token": "a", "logprob": -1.0, "index": n}], "refusal": None},
            }
            yield b"data: " + orjson.dumps({"model": "m" * 50, "choices": [choice]}) + b"\n\n"
        yield b"data: [DONE]\n\n"

    async def seconds(count: int) -> float:
        pieces = [*flood(count)]
        began = time.process_time()
        message, _ = await ask(pieces, streaming=True)
        took = time.process_time() - began
        assert message.text == "a" * count
        assert message.response_metadata["finish_reason"] == "stop"
        assert len(message.response_metadata["logprobs"]["content"]) > 0
        return took

    short, long = await seconds(1_000), await seconds(4_000)
    print(f"deltas of every kind: 1,000 in {short:.2f} s, 4,000 in {long:.2f} s")
    assert long < max(8 * short, 1.0)


async def test_structured_output_that_is_no_json_is_refused_before_it_is_taken_apart() -> None:
    pieces = [delta({"content": '{"a": ' + "x" * CHARS}), delta({}, "stop"), b"data: [DONE]\n\n"]
    async with client_of(Endless(STREAM, iter(pieces))) as client:
        model = adopted_model(client, streaming=True)
        wanted = model.with_structured_output({"title": "A", "type": "object", "properties": {}}, method="json_mode")
        began = time.monotonic()
        with pytest.raises(OutputParserException, match="no JSON"):
            await wanted.ainvoke("hello")
    assert time.monotonic() - began < SECONDS
