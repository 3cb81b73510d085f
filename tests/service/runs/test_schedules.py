from datetime import UTC, datetime, timedelta

import pytest

from agent_service.errors import InvalidRequest
from agent_service.runs.schedules import next_after

NOON = datetime(2027, 3, 27, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "expected"),
    [
        ("* * * * *", None, datetime(2027, 3, 27, 12, 1, tzinfo=UTC)),
        ("0 9 * * MON", None, datetime(2027, 3, 29, 9, 0, tzinfo=UTC)),
        ("0 9 * * *", "America/New_York", datetime(2027, 3, 27, 13, 0, tzinfo=UTC)),
        ("30 2 * * *", "Europe/Paris", datetime(2027, 3, 28, 1, 0, tzinfo=UTC)),  # half past two is none that night
        ("0 0 29 2 *", None, datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_the_next_time_is_the_first_one_after_in_its_zone(schedule: str, zone: str | None, expected: datetime) -> None:
    assert next_after(schedule, zone, NOON) == expected


def test_times_never_repeat_and_are_a_minute_apart_at_least() -> None:
    at: datetime | None = datetime(2027, 10, 31, 0, 0, tzinfo=UTC)
    for _ in range(200):  # over the hour that comes twice in Paris
        assert at is not None
        following = next_after("* * * * *", "Europe/Paris", at)
        assert following is not None
        assert following - at >= timedelta(minutes=1)
        at = following


def test_there_is_no_time_after_the_end() -> None:
    assert next_after("0 13 * * *", None, NOON, NOON + timedelta(minutes=30)) is None
    assert next_after("0 13 * * *", None, NOON, NOON + timedelta(hours=2)) is not None


@pytest.mark.parametrize(
    "schedule", ["", "* * * * * *", "x * * * *", "5-1 * * * *", "0 0 30 2 *", "1/1/1/ * * * *", "²L * * * *"]
)
def test_what_is_no_schedule_is_refused_by_its_name(schedule: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        next_after(schedule, None, NOON)
    assert refused.value.field == "schedule"
