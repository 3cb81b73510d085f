"""What branches leave behind, by the order of their runs alone."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from agent_service.runs.branches import LeftBehind, of_branches

BEGAN = datetime(2026, 11, 29, tzinfo=UTC)


def place(number: int) -> tuple[datetime, UUID]:
    return BEGAN + timedelta(seconds=number), UUID(int=number)


def branches(*found: tuple[int, int | None, str]) -> LeftBehind:
    """Of runs by number, each begun at a checkpoint of another one, or of none; the newest first."""
    rows = [{"id": UUID(int=run), "created_at": place(run)[0], **base_of(base), "keeps": keeps} for run, base, keeps in found]
    return of_branches(rows)


def base_of(run: int | None) -> dict[str, object]:
    return {"base": None, "base_at": None} if run is None else {"base": UUID(int=run), "base_at": place(run)[0]}


def left(gone: LeftBehind, count: int) -> list[int]:
    return [number for number in range(1, count + 1) if gone.has(place(number))]


def test_a_branch_leaves_behind_what_was_said_between_its_checkpoint_and_itself() -> None:
    assert left(branches((4, 1, "all")), 5) == [2, 3]
    assert left(branches(), 5) == []


def test_a_branch_from_before_the_first_run_leaves_all_behind_that_was_said_until_then() -> None:
    assert left(branches((4, None, "all")), 5) == [1, 2, 3]
    assert left(branches((6, 4, "all"), (4, None, "all")), 6) == [1, 2, 3, 5]


def test_a_branch_that_was_left_behind_leaves_nothing_behind() -> None:
    assert left(branches((4, 2, "all"), (3, 1, "all")), 4) == [3]


def test_a_question_that_was_edited_twice_leaves_both_earlier_ones_behind() -> None:
    assert left(branches((3, 2, "none"), (2, 1, "none")), 3) == [1, 2]


def test_branches_of_a_branch_add_up() -> None:
    assert left(branches((6, 4, "all"), (3, 1, "all")), 6) == [2, 5]


def test_an_answer_that_was_not_there_yet_is_left_behind_and_a_question_that_was_not_taken_too() -> None:
    gone = branches((3, 2, "question"))
    assert (left(gone, 3), gone.answers) == ([], {UUID(int=2)})
    assert left(branches((3, 2, "none")), 3) == [2]


def test_thousands_of_branches_are_looked_through_in_a_moment() -> None:
    """Who asks may begin as many; each comparison with each would be a hundred million."""
    count = 10_000
    gone = branches(*((2 * number, 2 * number - 2, "none") for number in range(count, 1, -1)))
    assert len(left(gone, 2 * count)) == 2 * count - 2


def test_a_checkpoint_of_two_runs_at_the_same_instant_tells_them_apart_by_their_ids() -> None:
    gone = LeftBehind(ranges=[((BEGAN, UUID(int=1)), (BEGAN, UUID(int=3)))])
    assert [number for number in range(1, 4) if gone.has((BEGAN, UUID(int=number)))] == [2]
