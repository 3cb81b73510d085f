import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.token_counts import count_tokens, most_tokens


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("hello world", 2), ("Grüße aus Köln", 5), ("🦜", 3)])
def test_counts_as_o200k_base_does(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_a_special_token_in_a_text_counts_as_its_characters() -> None:
    assert count_tokens("<|endoftext|>") > 1


def test_counts_texts_beyond_a_million_characters() -> None:
    assert count_tokens(" word" * 250_000) == 250_000


def test_counts_a_text_with_a_lone_surrogate() -> None:
    assert count_tokens("a\ud800b") == 3


@given(st.text())
def test_a_text_never_has_more_tokens_than_its_bound(text: str) -> None:
    assert count_tokens(text) <= most_tokens(text)
