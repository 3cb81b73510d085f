"""When a cron is due: pure functions."""

import re
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from agent_service.errors import InvalidRequest

FIELDS = 5
"""Minute, hour, day of the month, month, day of the week: a minute is the least period."""

MAX_SCHEDULE_CHARS = 200

ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(/[A-Za-z0-9_+-]{1,30}){0,2}")
"""Names of time zones are paths of files: this one leads nowhere else."""


def next_after(schedule: str, timezone: str | None, after: datetime, end: datetime | None = None) -> datetime | None:
    """The first time of the schedule after one, None when there is none before `end`, or in 50 years.

    Raises:
        InvalidRequest: the schedule or the time zone is none; names the field.
    """
    zone = _zone(timezone)
    if len(schedule) > MAX_SCHEDULE_CHARS or len(schedule.split()) != FIELDS:
        raise InvalidRequest(f"schedule: expected {FIELDS} fields, minute to day of the week", field="schedule")
    try:
        found = next(CronSim(schedule, after.astimezone(zone)), None)
    except (CronSimError, AssertionError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"schedule: expected a cron expression such as '0 9 * * MON': {error}", field="schedule") from None
    if found is None or (end and found > end):
        return None
    return found.astimezone(UTC)


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    with suppress(ValueError, OSError, KeyError):  # KeyError: there is none of this name
        if ZONE.fullmatch(name):
            return ZoneInfo(name)
    raise InvalidRequest("timezone: expected a name such as Europe/Paris", field="timezone")
