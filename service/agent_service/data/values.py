"""Database values as JSON has them. Pure."""

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal

JsonValue = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


def to_json(value: object) -> JsonValue:
    """Numbers stay numbers, dates become ISO 8601, and whatever JSON has no form for becomes text."""
    match value:
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case _:
            return _scalar(value)


def _scalar(value: object) -> JsonValue:
    match value:
        case None | str() | bool() | int():
            return value
        case float() | Decimal() if math.isfinite(value):
            return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)
