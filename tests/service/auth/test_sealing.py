import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.auth.sealing import Sealer

SECRET = b"s" * 32


@given(st.text())
def test_what_one_replica_seals_another_opens(text: str) -> None:
    sealed = Sealer(SECRET, "a").seal(text)
    assert Sealer(SECRET, "a").open(sealed) == text


def test_no_other_purpose_and_no_other_installation_opens_it() -> None:
    sealed = Sealer(SECRET, "a").seal("text")
    assert Sealer(SECRET, "b").open(sealed) is None
    assert Sealer(b"t" * 32, "a").open(sealed) is None


def test_one_changed_character_is_enough_to_refuse_it() -> None:
    sealed = Sealer(SECRET, "a").seal("text of a session")
    for at in range(len(sealed) - 1):  # the last one has bits that stand for nothing
        other = "A" if sealed[at] != "A" else "B"
        assert Sealer(SECRET, "a").open(sealed[:at] + other + sealed[at + 1 :]) is None


@pytest.mark.parametrize("text", ["", "a", "\x00", "é", "=" * 50, "A" * 20])
def test_what_was_never_sealed_is_refused(text: str) -> None:
    assert Sealer(SECRET, "a").open(text) is None


@given(st.text())
def test_any_text_that_was_not_sealed_is_refused(text: str) -> None:
    assert Sealer(SECRET, "a").open(text) is None
