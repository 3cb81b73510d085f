"""When the next rotation is due, and why one begins. The answer is kept in the status, so that a restart asks nothing anew."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from agent_operator.manifests.rotation_spec import Schedule, Window
from agent_operator.reconcile.rotation.situation import Situation
from agent_operator.reconcile.rotation.status import Phase, RotationStatus

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

AHEAD_DAYS = 8
"""Windows repeat each week: one that has not opened by then never does."""

LIFETIME_SHARE = 2 / 3
"""Of a key that expires: a third is left for whoever must repair a rotation that fails."""


def cause(situation: Situation) -> str | None:
    """Why a rotation begins now; None when it does not."""
    status, rotate_now = situation.status, situation.requests.rotate_now
    if situation.emergency:
        return "Emergency"
    if situation.published == 0 and status.revision == 0:
        return "FirstKey"
    if situation.published < status.revision:
        return "SecretLost"
    if rotate_now and rotate_now != status.rotate_now:
        return "RotateNow"
    if status.next_rotation and situation.now >= status.next_rotation:
        return "Scheduled"
    return None


def planned(situation: Situation) -> RotationStatus:
    """The status with the time of the next rotation, if it has none or the spec has changed; and what is no longer asked for."""
    status = situation.status
    changed = status.generation != situation.identity.generation
    if changed:
        status = replace(status, failure=None)  # whoever changed the spec may have mended it
    if situation.emergency:
        status = status.retried_soon(situation.now)
    if status.phase is not Phase.IDLE:
        if changed and status.key_time:
            status = replace(status, next_rotation=due_after(situation, status.key_time))
        return status
    leaked = situation.requests.leaked
    if leaked is not None and leaked > status.revision:
        status = replace(status, ignored_leak=leaked)  # a revision that there never was: else it would fire once there is
    if status.revision and not status.discards and (changed or not status.next_rotation):
        status = replace(status, next_rotation=due_after(situation, status.key_time or situation.now))
    return replace(status, next_rotation=_postponed(situation, status))


def due_after(situation: Situation, since: datetime) -> datetime | None:
    """When the key that was published at `since` is replaced; None when it is not by itself."""
    seed = f"{situation.identity.uid}/{since.timestamp():.0f}"
    return next_rotation(situation.spec.schedule, situation.spec.key_lifetime, since, seed)


def _postponed(situation: Situation, status: RotationStatus) -> datetime | None:
    """A time that was missed (operator away, object paused) moves to the next open window, unless the key expires."""
    due, schedule, now = status.next_rotation, situation.spec.schedule, situation.now
    if due is None or now < due or schedule is None or is_open(schedule, now):
        return due
    expiring = next_rotation(None, situation.spec.key_lifetime, status.key_time, "") if status.key_time else None
    return due if expiring and now >= expiring else next_open(schedule, now)


def check_schedule(schedule: Schedule, now: datetime) -> None:
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
