"""What a rotation remembers: `status` of the object. Key ids and times; never a key, and no hash of one."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from agent_operator.clock import parse_timestamp, timestamp
from agent_operator.egress.text import plain
from agent_operator.manifests.conditions import Condition
from agent_operator.reconcile.rotation.secret import TargetSecret

FIRST_BACKOFF = timedelta(seconds=5)
LONGEST_BACKOFF = timedelta(minutes=5)
"""A provider that was down for hours is used again within five minutes."""

REFUSED_BACKOFF = timedelta(minutes=10)
"""After a 401 or 403: only a person can help, who then changes the object or waits this long."""

EMERGENCY_BACKOFF = timedelta(seconds=30)
"""The longest pause while a leaked key waits to be revoked: whoever asked for that may be mending the cause."""

FENCED_BACKOFF = timedelta(seconds=5)
"""While another operator holds the Lease: one that was killed holds it for half a minute more."""


class Phase(StrEnum):
    IDLE = "Idle"
    MINTING = "Minting"
    """The intent is written down; the new key is made and staged in the Secret."""
    VERIFYING = "Verifying"
    """The new key is staged. A presented key must work; a key that we check must be accepted by every pod."""
    CONFIRMING = "Confirming"
    """The new key is published; every pod must report it."""
    OVERLAPPING = "Overlapping"
    """Every pod has it; what began with the old key comes to its end."""
    REVOKING = "Revoking"
    """The old key is deleted at the provider, then taken out of the Secret."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Attempts in a row that failed, and when the next one is due."""

    count: int
    reason: str
    message: str
    next_attempt: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """The journal: what is being made, written before it is made."""

    revision: int
    key_name: str
    started: datetime
    cause: str = ""
    key_id: str | None = None
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    phase: Phase = Phase.IDLE
    phase_since: datetime | None = None
    generation: int = 0
    revision: int = 0
    key_id: str | None = None
    previous_key_id: str | None = None
    key_time: datetime | None = None
    last_rotation: datetime | None = None
    next_rotation: datetime | None = None
    confirmed: datetime | None = None
    overlap_until: datetime | None = None
    pending: Pending | None = None
    failure: Failure | None = None
    rotate_now: str | None = None
    ignored_leak: int | None = None
    discards: int = 0
    """New keys in a row that did not work and were given up."""
    unconfirmed: tuple[str, ...] = ()
    conditions: list[Condition] = field(default_factory=list)

    def enter(self, phase: Phase, now: datetime, **changes: Any) -> "Status":
        """The status in another phase: a success, so that failures are forgotten."""
        return replace(self, phase=phase, phase_since=now, failure=None, **changes)

    def failed(self, reason: str, message: str, now: datetime, *, pause: timedelta | None = None) -> "Status":
        """Counts a failure and says when to try again: after `pause`, or later each time."""
        count = self.failure.count + 1 if self.failure else 1
        pause = pause or min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(count - 1, 10))
        return replace(self, failure=Failure(count, reason, plain(message, 500), now + pause))

    def hastened(self, now: datetime) -> "Status":
        """The next attempt soon, whatever pause an earlier failure asked for."""
        if self.failure is None or self.failure.next_attempt <= now + EMERGENCY_BACKOFF:
            return self
        return replace(self, failure=replace(self.failure, next_attempt=now + EMERGENCY_BACKOFF))

    def mirror(self, secret: TargetSecret | None) -> "Status":
        """What the Secret says of keys, unless it is older than what we know.

        Of the revision that we know, our own ids count: a stripped annotation must not make the key in use an unknown one.
        """
        if secret is None or secret.foreign or secret.revision < max(self.revision, 1):
            return self
        known = self if secret.revision == self.revision else Status()
        previous = known.previous_key_id or secret.previous_key_id
        return replace(
            self,
            revision=secret.revision,
            key_id=known.key_id or secret.key_id,
            previous_key_id=previous if secret.has_previous else None,
            key_time=secret.rotated_at or known.key_time,
        )


TIMES = {
    "phaseSince": "phase_since",
    "currentKeyTime": "key_time",
    "lastRotationTime": "last_rotation",
    "nextRotationTime": "next_rotation",
    "confirmedTime": "confirmed",
    "overlapUntil": "overlap_until",
}
PLAIN = {
    "observedGeneration": "generation",
    "revision": "revision",
    "currentKeyID": "key_id",
    "previousKeyID": "previous_key_id",
    "handledRotateNow": "rotate_now",
    "ignoredEmergencyRevoke": "ignored_leak",
    "discardedKeys": "discards",
}


def read_status(block: dict[str, Any]) -> Status:
    given: dict[str, Any] = {name: parse_timestamp(block[key]) for key, name in TIMES.items() if key in block}
    given |= {name: block[key] for key, name in PLAIN.items() if key in block}
    return Status(
        phase=Phase(block.get("phase", "Idle")),
        pending=_read_pending(block["pending"]) if "pending" in block else None,
        failure=_read_failure(block["failure"]) if "failure" in block else None,
        unconfirmed=tuple(block.get("unconfirmedPods", [])),
        conditions=block.get("conditions", []),
        **given,
    )


def write_status(status: Status) -> dict[str, Any]:
    times = {key: timestamp(moment) for key, name in TIMES.items() if (moment := getattr(status, name))}
    plain = {key: value for key, name in PLAIN.items() if (value := getattr(status, name)) is not None}
    block = {"phase": str(status.phase), **plain, **times, "unconfirmedPods": list(status.unconfirmed)}
    if status.pending:
        block["pending"] = _write_pending(status.pending)
    if status.failure:
        block["failure"] = write_failure(status.failure)
    return {**block, "conditions": status.conditions}


def _read_pending(block: dict[str, Any]) -> Pending:
    return Pending(
        revision=block["revision"],
        key_name=block["keyName"],
        started=parse_timestamp(block["startedAt"]),
        cause=block.get("cause", ""),
        key_id=block.get("keyID"),
        verified=block.get("verified", False),
    )


def _write_pending(pending: Pending) -> dict[str, Any]:
    block = {
        "revision": pending.revision,
        "keyName": pending.key_name,
        "startedAt": timestamp(pending.started),
        "cause": pending.cause,
        "verified": pending.verified,
    }
    return {**block, "keyID": pending.key_id} if pending.key_id else block


def _read_failure(block: dict[str, Any]) -> Failure:
    return Failure(block["count"], block["reason"], block["message"], parse_timestamp(block["nextAttempt"]))


def write_failure(failure: Failure) -> dict[str, Any]:
    return {
        "count": failure.count,
        "reason": failure.reason,
        "message": failure.message,
        "nextAttempt": timestamp(failure.next_attempt),
    }
