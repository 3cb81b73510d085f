import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.documents.excerpt import excerpt, stems

FILLER = "This sentence speaks of something else at some length, and then goes on. " * 4
TABLE = "\n".join(["| setting | what |", "| --- | --- |", *(f"| `S{i}` | value {i} of the list |" for i in range(20))])


def test_short_text_stays_whole() -> None:
    assert excerpt("One.\n\nTwo.", "two", 100) == "One.\n\nTwo."


def test_sentences_that_share_rare_words_with_the_question_are_kept_whole() -> None:
    text = f"{FILLER}A lease ends after five seconds. {FILLER}"

    shown = excerpt(text, "when does a lease end?", 120)

    assert "A lease ends after five seconds." in shown
    assert shown.startswith(("A lease", "This sentence"))


def test_table_keeps_its_header_and_the_rows_that_match() -> None:
    text = f"{FILLER}\n\n{TABLE}\n| `DRAIN` | leases are handed over |"

    shown = excerpt(text, "who gets a lease?", 120)

    assert shown.endswith("| setting | what |\n| --- | --- |\n| `DRAIN` | leases are handed over |")
    assert "`S1`" not in shown


def test_omission_within_a_paragraph_is_marked() -> None:
    text = f"Rotate the key first. {FILLER}Then revoke the old key. {FILLER}"

    assert excerpt(text, "rotate and revoke a key", 50) == "Rotate the key first. … Then revoke the old key."


def test_code_block_is_not_taken_apart() -> None:
    code = "```sh\nslipway migrate\n\nslipway serve\n```"

    assert excerpt(f"{FILLER}\n\n{code}\n\n{FILLER}", "migrate", 60) == code


def test_only_a_sentence_that_does_not_fit_is_cut_and_at_a_word() -> None:
    assert excerpt("wordy " * 50, "wordy", 22) == "wordy wordy wordy …"


@pytest.mark.parametrize(("one", "other"), [("rotate", "rotation"), ("keys", "key"), ("migrations", "migrate"), ("ends", "end")])
def test_forms_of_a_word_are_one(one: str, other: str) -> None:
    assert stems(one) == stems(other)


@given(st.text(alphabet="ab .\n|-`", max_size=200), st.text(alphabet="ab ", max_size=10), st.integers(min_value=1, max_value=80))
def test_excerpt_is_never_longer_than_asked_for(text: str, question: str, chars: int) -> None:
    assert len(excerpt(text, question, chars)) <= chars
