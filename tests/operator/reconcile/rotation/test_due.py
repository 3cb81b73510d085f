"""When a rotation is due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_operator.manifests.rotation_spec import Schedule, Window
from agent_operator.reconcile.rotation.due import check_schedule, is_open, next_open, next_rotation

THURSDAY = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
OFFICE = Window(start="09:00", end="17:00", days=["Mon", "Tue", "Wed", "Thu", "Fri"])
NIGHT = Window(start="22:00", end="06:00")
HOUR = timedelta(hours=1)


def test_without_a_schedule_nothing_is_due() -> None:
    assert next_rotation(None, None, THURSDAY, "seed") is None


def test_an_interval_counts_from_the_last_rotation() -> None:
    assert next_rotation(Schedule(interval=24 * HOUR), None, THURSDAY, "seed") == THURSDAY + 24 * HOUR


def test_a_cron_line_is_read_in_its_time_zone() -> None:
    due = next_rotation(Schedule(cron="30 3 * * *", time_zone="Europe/Berlin"), None, THURSDAY, "seed")
    assert due == datetime(2026, 1, 2, 2, 30, tzinfo=UTC)


def test_jitter_is_the_same_each_time_and_differs_between_objects() -> None:
    schedule = Schedule(interval=24 * HOUR, jitter=HOUR)
    times = {next_rotation(schedule, None, THURSDAY, seed) for seed in ("a", "b", "c", "a", "b", "c")}
    assert len(times) == 3
    assert all(time and THURSDAY + 24 * HOUR <= time <= THURSDAY + 25 * HOUR for time in times)


def test_a_key_that_expires_is_rotated_at_two_thirds_of_its_life() -> None:
    assert next_rotation(Schedule(interval=720 * HOUR), 3 * HOUR, THURSDAY, "seed") == THURSDAY + 2 * HOUR


@pytest.mark.parametrize(
    ("due", "opens"),
    [
        (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC)),
        (datetime(2026, 1, 1, 18, tzinfo=UTC), datetime(2026, 1, 2, 9, tzinfo=UTC)),
        (datetime(2026, 1, 3, 12, tzinfo=UTC), datetime(2026, 1, 5, 9, tzinfo=UTC)),  # a Saturday
    ],
)
def test_a_time_outside_of_the_windows_waits_for_the_next_one(due: datetime, opens: datetime) -> None:
    assert next_open(Schedule(allow=[OFFICE]), due) == opens


def test_a_denied_time_waits_for_its_end_and_denial_wins() -> None:
    schedule = Schedule(allow=[OFFICE], deny=[Window(start="11:00", end="13:00")])
    assert next_open(schedule, THURSDAY) == THURSDAY + HOUR


def test_a_window_may_reach_into_the_next_day() -> None:
    schedule = Schedule(allow=[NIGHT])
    assert is_open(schedule, datetime(2026, 1, 2, 5, 59, tzinfo=UTC))
    assert next_open(schedule, datetime(2026, 1, 2, 6, tzinfo=UTC)) == datetime(2026, 1, 2, 22, tzinfo=UTC)


def test_windows_that_leave_no_moment_open_are_told_by_none() -> None:
    assert next_open(Schedule(deny=[Window()]), THURSDAY) is None


@given(due=st.integers(0, 366 * 24 * 60).map(lambda minutes: THURSDAY + timedelta(minutes=minutes)))
def test_the_moment_found_is_open_and_not_before_it_is_due(due: datetime) -> None:
    schedule = Schedule(allow=[OFFICE, NIGHT], deny=[Window(start="23:00", end="23:30")], time_zone="America/New_York")
    found = next_open(schedule, due)
    assert found is not None
    assert found >= due
    assert is_open(schedule, found)


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (Schedule(interval=HOUR, time_zone="Mars/Olympus"), "timeZone"),
        (Schedule(cron="61 * * * *"), "cron"),
        (Schedule(interval=HOUR, deny=[Window()]), "no moment open"),
    ],
)
def test_what_the_api_server_cannot_judge_is_refused_with_the_field(schedule: Schedule, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_schedule(schedule, THURSDAY)
