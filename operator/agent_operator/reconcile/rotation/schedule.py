"""When the next rotation is due. The answer is kept in the status, so that a restart asks nothing anew."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from agent_operator.reconcile.rotation.model import Schedule, Window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

AHEAD_DAYS = 8
"""Windows repeat each week: one that has not opened by then never does."""

LIFETIME_SHARE = 2 / 3
"""Of a key that expires: a third is left for whoever must repair a rotation that fails."""


def check(schedule: Schedule, now: datetime) -> None:
    """Raises ValueError for what the API server cannot judge, with the name of the field."""
    try:
        ZoneInfo(schedule.time_zone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"schedule.timeZone: {schedule.time_zone!r} is not known") from None
    try:
        CronSim(schedule.cron or "* * * * *", now)
    except CronSimError as error:
        raise ValueError(f"schedule.cron: {error}") from None
    if next_open(schedule, now) is None:
        raise ValueError("schedule: allow and deny leave no moment open")


def next_rotation(schedule: Schedule | None, lifetime: timedelta | None, since: datetime, seed: str) -> datetime | None:
    """The next time after `since`, in UTC; None when there is no schedule and the keys do not expire.

    `seed` spreads rotations within the jitter, the same way each time it is asked.
    """
    scheduled = _scheduled(schedule, since, seed) if schedule else None
    expiring = since + lifetime * LIFETIME_SHARE if lifetime else None
    return min(filter(None, (scheduled, expiring)), default=None)


def _scheduled(schedule: Schedule, since: datetime, seed: str) -> datetime | None:
    if schedule.cron:
        due = next(CronSim(schedule.cron, since.astimezone(ZoneInfo(schedule.time_zone)))).astimezone(since.tzinfo)
    elif schedule.interval:
        due = since + schedule.interval
    else:
        return None
    return next_open(schedule, due + schedule.jitter * _share(seed))


def _share(seed: str) -> float:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32


def next_open(schedule: Schedule, due: datetime) -> datetime | None:
    """The first moment from `due` on that the windows leave open; None if they never do."""
    local = due.astimezone(ZoneInfo(schedule.time_zone))
    found = next((moment for moment in sorted(_edges(schedule, local)) if is_open(schedule, moment)), None)
    return found.astimezone(due.tzinfo) if found else None


def is_open(schedule: Schedule, moment: datetime) -> bool:
    """`deny` wins over `allow`; without `allow` every moment is allowed."""
    local = moment.astimezone(ZoneInfo(schedule.time_zone))
    allowed = not schedule.allow or any(_within(window, local) for window in schedule.allow)
    return allowed and not any(_within(window, local) for window in schedule.deny)


def _edges(schedule: Schedule, local: datetime) -> Iterator[datetime]:
    """`local` and each later moment at which a window opens or closes."""
    yield local
    times = [window.start for window in schedule.allow] + [window.end for window in schedule.deny]
    for ahead in range(AHEAD_DAYS):
        midnight = (local + timedelta(days=ahead)).replace(hour=0, minute=0, second=0, microsecond=0)
        for text in times:
            moment = midnight + timedelta(minutes=_minutes(text))
            if moment > local:
                yield moment


def _within(window: Window, local: datetime) -> bool:
    minute, start, end = local.hour * 60 + local.minute, _minutes(window.start), _minutes(window.end)
    if start < end:
        return start <= minute < end and _on(window, local)
    return (minute >= start and _on(window, local)) or (minute < end and _on(window, local - timedelta(days=1)))


def _on(window: Window, local: datetime) -> bool:
    return not window.days or DAYS[local.weekday()] in window.days


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
