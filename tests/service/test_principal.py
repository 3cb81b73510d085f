import pytest
from pydantic import TypeAdapter, ValidationError

from agent_service.principal import Name, Principal, namespace_label

NAME: TypeAdapter[str] = TypeAdapter(Name)


def test_two_pairs_of_names_have_two_labels() -> None:
    assert Principal("a", "b/c").label == "a/b%2Fc"
    assert Principal("a/b", "c").label == "a%2Fb/c"
    assert Principal("a", "b%2Fc").label != Principal("a", "b/c").label


def test_a_name_becomes_a_label_of_the_store_that_holds_no_dot_and_no_pattern() -> None:
    assert Principal("acme", "al@example.com").namespace == ("callers", "acme", "al@example%2Ecom")
    assert namespace_label("*") == "%2A"


def test_how_somebody_came_does_not_make_another_principal() -> None:
    assert Principal("a", "b", by_key=True) == Principal("a", "b")


@pytest.mark.parametrize("name", ["x", "Zoë", "al@example.com", "n" * 128])
def test_names_of_people_are_accepted(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize("name", ["", "n" * 129, "a\nb", "a\x00"])
def test_a_name_that_would_break_a_log_line_or_a_column_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)
