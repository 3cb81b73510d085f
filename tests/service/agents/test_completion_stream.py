from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agents.completion_format import usage
from agent_service.agents.completion_stream import Answer, EventDecoder
from agent_service.agents.endpoint_errors import AttemptFailed
from agent_service.errors import ModelRejected

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, **choice}]}


def text(content: str) -> dict[str, Any]:
    return chunk({"content": content})


def event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def contents(chunks: list[dict[str, Any]]) -> list[Any]:
    return [c["choices"][0]["delta"]["content"] for c in chunks]


@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_events_are_the_same_wherever_the_reads_cut_them(texts: list[str], newline: str, data: st.DataObject) -> None:
    lines = [line for t in texts for line in (": comment", f"data: {orjson.dumps(t).decode()}", "")]
    wire = "".join(line + newline for line in lines).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))) | {0, len(wire)})
    decoder = EventDecoder()
    decoded = [e for start, stop in pairwise(cuts) for e in decoder.feed(wire[start:stop])]
    assert [orjson.loads(e) for e in [*decoded, *decoder.finish()]] == texts


def test_an_event_of_several_data_lines_is_one() -> None:
    assert EventDecoder().feed(b'event: x\ndata: {"a":\ndata: 1}\nid: 4\n\n') == [b'{"a":\n 1}']


def test_comments_and_events_without_data_are_left_out() -> None:
    assert EventDecoder().feed(b": ping\n\n\n\nevent: x\n\ndata: 1\n\n") == [b"1"]


@given(st.lists(st.lists(TEXT, max_size=4), max_size=4))
def test_all_text_of_a_read_is_one_chunk_in_its_order(reads: list[list[str]]) -> None:
    answer = Answer()
    answer.feed(event(text("begin. ")))  # whatever comes now is no tag of a thought
    for read in reads:
        assert contents(answer.feed(b"".join(event(text(piece)) for piece in read))) == (["".join(read)] if read else [])


def test_text_is_not_merged_with_what_comes_before_or_behind_something_else() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:"}}
    answer = Answer()
    chunks = answer.feed(b"".join(map(event, [text("a"), text("b"), chunk({"content": [part]})])))
    assert contents(chunks) == ["ab", [part]]
    answer = Answer()
    chunks = answer.feed(b"".join(map(event, [text("a"), chunk({"content": "b"}, finish_reason="stop"), text("c"), text("d")])))
    assert contents(chunks) == ["a", "b", "cd"]


def test_the_role_and_empty_keys_do_not_hinder_a_merge() -> None:
    chunks = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "a", "tool_calls": None, "refusal": None}),
        text("b"),
        chunk({"content": "c", "tool_calls": [], "reasoning_content": None, "reasoning": ""}, logprobs=None, finish_reason=None),
    ]
    assert contents(Answer().feed(b"".join(map(event, chunks)))) == ["abc"]


def test_text_behind_a_thought_is_merged_too_and_text_behind_a_part_becomes_one() -> None:
    answer = Answer()
    answer.feed(event(chunk({"reasoning_content": "hm"})) + event(text("a")))
    assert contents(answer.feed(event(text("b")) + event(text("c")))) == ["bc"]
    part = {"type": "image_url", "image_url": {"url": "data:"}}
    answer = Answer()
    answer.feed(event(chunk({"content": [part]})))
    assert contents(answer.feed(event(text("a")))) == [["a"]]


def test_running_totals_of_usage_become_one_chunk_at_the_end() -> None:
    answer = Answer()
    chunks = answer.feed(event({**text("a"), "usage": {"total_tokens": 1}}) + event({**text("b"), "usage": {"total_tokens": 2}}))
    chunks += answer.feed(b"data: [DONE]\n\n")
    assert contents(chunks[:-1]) == ["ab"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], {"total_tokens": 2})
    assert answer.done
    assert answer.failure is None


def test_text_before_a_malformed_chunk_is_kept() -> None:
    answer = Answer()
    assert contents(answer.feed(event(text("a")) + b"data: {oops\n\n" + event(text("b")))) == ["a"]
    assert isinstance(answer.failure, AttemptFailed)


@pytest.mark.parametrize("payload", [[], 1, "x", {"choices": ["x"]}, {"choices": 3}, None])
def test_what_is_no_chunk_is_a_failure(payload: Any) -> None:
    answer = Answer()
    answer.feed(event(payload))
    assert isinstance(answer.failure, AttemptFailed)


def test_an_end_before_a_finish_reason_is_a_failure() -> None:
    answer = Answer()
    answer.feed(event(text("a")))
    answer.feed(b"")
    assert isinstance(answer.failure, AttemptFailed)
    assert answer.failure.status == "connection_error"


@pytest.mark.parametrize("rest", [b"", b"data: [DONE]"])
def test_an_end_after_the_finish_reason_needs_no_done(rest: bytes) -> None:
    answer = Answer()
    answer.feed(event(chunk({"content": "a"}, finish_reason="stop")) + rest)
    answer.feed(b"")
    assert answer.done
    assert answer.failure is None


@pytest.mark.parametrize("delta", [{}, {"delta": None}])
def test_a_last_chunk_without_a_delta_gets_an_empty_one(delta: dict[str, Any]) -> None:
    chunks = Answer().feed(event({"choices": [{"index": 0, "finish_reason": "stop", **delta}]}))
    assert chunks[0]["choices"][0]["delta"] == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "overloaded", "code": None}, AttemptFailed),
        ({"message": "slow down", "code": 429}, AttemptFailed),
        ({"message": "too long", "code": 400}, ModelRejected),
        ("plain text", AttemptFailed),
    ],
)
def test_an_error_object_in_the_stream_is_a_failure(error: Any, kind: type[Exception]) -> None:
    answer = Answer()
    answer.feed(event({"error": error}))
    assert isinstance(answer.failure, kind)


def test_an_error_object_without_one_around_it_ends_the_answer() -> None:
    answer = Answer()
    answer.feed(event({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}))
    assert isinstance(answer.failure, ModelRejected)


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        # thoughts in the total only: Gemini without, Grok with a detail
        ((50, 20, 370, {}), (320, {"reasoning_tokens": 300}, {})),
        ((50, 20, 370, {"completion_tokens_details": {"reasoning_tokens": 300}}), (320, {"reasoning_tokens": 300}, {})),
        ((50, 20, 70, {"completion_tokens_details": {"reasoning_tokens": 9}}), (20, {"reasoning_tokens": 9}, {})),
        # details that add up to more than the prompt, as a part of it is told of twice
        (
            (50, 20, 370, {"prompt_tokens_details": {"text_tokens": 50, "cached_tokens": 6}}),
            (320, {"reasoning_tokens": 300}, {"cached_tokens": 6, "text_tokens": 50}),
        ),
        ((50, 20, 0, {}), (20, {}, {})),
        # what was cached: beside the details
        ((50, 20, 70, {"prompt_cache_hit_tokens": 32, "prompt_cache_miss_tokens": 18}), (20, {}, {"cached_tokens": 32})),
        (
            (50, 20, 70, {"cache_read_input_tokens": 8, "cache_creation_input_tokens": 9, "prompt_tokens_details": None}),
            (20, {}, {"cached_tokens": 8, "cache_write_tokens": 9}),
        ),
        (
            (50, 20, 70, {"cache_read_input_tokens": 8, "prompt_tokens_details": {"cached_tokens": 7}}),
            (20, {}, {"cached_tokens": 7}),
        ),
        # a prompt without what was cached: the rest of the total is no thought
        ((5, 20, 1025, {"cache_read_input_tokens": 1000}), (20, {}, {"cached_tokens": 1000})),
    ],
)
def test_usage_of_each_provider_becomes_that_of_openai(told: tuple[int, int, int, Any], counted: tuple[Any, Any, Any]) -> None:
    prompt, said, total, more = told
    found = usage({"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": total, **more})
    details = found.get("completion_tokens_details", {}), found.get("prompt_tokens_details", {})
    assert (found["completion_tokens"], *details) == counted
    assert found["prompt_tokens"] == prompt


def test_thoughts_in_tags_that_come_in_pieces_are_no_text() -> None:
    answer = Answer()
    chunks = [
        told
        for piece in ("<think>", "let me", " see", "</think>", "\n\nHi", " there")
        for told in answer.feed(event(text(piece)))
    ]
    chunks += answer.feed(event(chunk({"content": "."}, finish_reason="stop")) + b"data: [DONE]\n\n")
    deltas = [told["choices"][0]["delta"] for told in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hi there."
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "let me see"


def test_a_tag_behind_plain_text_is_text() -> None:
    answer = Answer()
    chunks = answer.feed(event(text("Hi")) + event(chunk({"content": "<think>x"}, finish_reason="stop")) + b"data: [DONE]\n\n")
    assert "".join(told["choices"][0]["delta"].get("content") or "" for told in chunks) == "Hi<think>x"
