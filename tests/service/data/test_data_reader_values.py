from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from agent_service.data.data_reader import JsonValue, to_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (Decimal("0.125"), 0.125),
        (Decimal(9007199254740993), 9007199254740993),
        (Decimal("NaN"), "NaN"),
        (float("inf"), "inf"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (timedelta(hours=1), "1:00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([Decimal(1), {"a": (Decimal("0.5"),)}], [1, {"a": [0.5]}]),
    ],
)
def test_value_becomes_what_json_can_hold(value: object, expected: JsonValue) -> None:
    assert to_json(value) == expected
