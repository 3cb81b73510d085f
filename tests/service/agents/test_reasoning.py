"""Thoughts are told apart from the answer, wherever the pieces of a stream are cut."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.agents.reasoning import Thoughts, apart


def streamed(deltas: Sequence[dict[str, Any]]) -> tuple[str, str, int]:
    """(thought, text) of what the deltas become, and in how many pieces langchain gets the thoughts."""
    thoughts = Thoughts()
    for delta in deltas:
        thoughts.take(delta)
        if delta.get("content"):
            thoughts.before_text(delta)
    last: dict[str, Any] = {}
    thoughts.end(last)
    told = [*deltas, last]
    handed = [delta["reasoning_content"] for delta in told if "reasoning_content" in delta]
    assert "".join(handed) == "".join(thoughts.pieces)
    return "".join(handed), "".join(delta.get("content") or "" for delta in told), len(handed)


WHOLE = {
    "<think>hm</think>Yes.": ("hm", "Yes."),
    "<think>\nhm\n</think>\n\nYes.": ("\nhm\n", "Yes."),
    "  \n<thought>a < b</thought> Yes <b>now</b>": ("a < b", "Yes <b>now</b>"),
    "<thinking>one</thinking><think>two</think>": ("one", "<think>two</think>"),
    "<reasoning></reasoning>Yes": ("", "Yes"),
    "<think>never closed": ("never closed", ""),
    "<think></thin</think>": ("</thin", ""),
    "In HTML <think>x</think> is no tag.": ("", "In HTML <think>x</think> is no tag."),
    "<thinker>x": ("", "<thinker>x"),
    "<b>bold</b>": ("", "<b>bold</b>"),
    "<": ("", "<"),
    " " * 65 + "<think>x</think>": ("", " " * 65 + "<think>x</think>"),
    "": ("", ""),
    "\n\n": ("", "\n\n"),
}


@pytest.mark.parametrize("text", WHOLE)
def test_a_tag_that_begins_the_answer_holds_thoughts(text: str) -> None:
    thought, said = WHOLE[text]
    assert apart({"content": text}) == {"content": said} | ({"reasoning_content": thought} if thought else {})
    assert streamed([{"content": text}])[:2] == (thought, said)
    assert streamed([{"content": character} for character in text])[:2] == (thought, said)


@given(st.text(alphabet="<>/think \nab", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_it_does_not_matter_where_text_is_cut(text: str, cuts: list[int]) -> None:
    at = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [{"content": text[a:b]} for a, b in pairwise(at)]
    whole = apart({"content": text})
    assert streamed(pieces)[:2] == (whole.get("reasoning_content", ""), whole["content"])


def test_fields_beside_the_text_hold_thoughts_once() -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None},
        {"reasoning": "a", "reasoning_content": "a", "content": None},
        {"reasoning": "b", "content": ""},
        {"content": "Yes"},
        {"reasoning_content": "c", "content": "."},
        {"reasoning": {"effort": "low"}, "content": "!"},
    ]
    assert streamed(deltas) == ("abc", "Yes.!", 2)
    assert apart({"reasoning": "a", "reasoning_content": "", "content": "Yes"}) == {"reasoning_content": "a", "content": "Yes"}
    assert apart({"reasoning": ["a"], "content": None}) == {"content": None}


def test_thoughts_by_turns_reach_langchain_in_two_pieces() -> None:
    turns: list[dict[str, Any]] = [{"reasoning_content": "b", "content": "a"} for _ in range(1_000)]
    assert streamed(turns) == ("b" * 1_000, "a" * 1_000, 2)


def test_held_text_joins_an_answer_that_turns_into_parts() -> None:
    thoughts, first = Thoughts(), {"content": "<"}
    assert thoughts.take(first)
    last: dict[str, Any] = {"content": [{"type": "text", "text": "b"}]}
    thoughts.end(last)
    assert (first["content"], last["content"]) == ("", ["<", {"type": "text", "text": "b"}])
