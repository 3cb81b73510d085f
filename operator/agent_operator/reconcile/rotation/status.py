"""What a rotation remembers: `status` of the object. Key ids and times; never a key, and no hash of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter

from agent_operator.manifests.conditions import Condition, ConditionedStatus
from agent_operator.reconcile.rotation.secret import TargetSecret
from slipway_clients.clock import parse_timestamp, timestamp
from slipway_clients.egress.text import plain

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
    """Where a rotation stands. `machine.TRANSITIONS` says how it goes on."""

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


def _parsed(text: object) -> datetime:
    return parse_timestamp(str(text))


Time = Annotated[datetime, BeforeValidator(_parsed), PlainSerializer(timestamp, return_type=str)]
"""Whole seconds, as Kubernetes writes a `Time`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Attempts in a row that failed, and when the next one is due."""

    count: int
    reason: str
    message: str
    next_attempt: Annotated[Time, Field(alias="nextAttempt")]


@dataclass(frozen=True, slots=True)
class Pending:
    """The journal: what is being made, written before it is made."""

    revision: int
    key_name: Annotated[str, Field(alias="keyName")]
    started: Annotated[Time, Field(alias="startedAt")]
    cause: str = ""
    key_id: Annotated[str | None, Field(alias="keyID")] = None
    verified: bool = False


@dataclass(frozen=True, slots=True)
class RotationStatus:
    """`status` of a KeyRotation; the aliases are its fields."""

    phase: Phase = Phase.IDLE
    phase_since: Annotated[Time | None, Field(alias="phaseSince")] = None
    generation: Annotated[int, Field(alias="observedGeneration")] = 0
    revision: int = 0
    key_id: Annotated[str | None, Field(alias="currentKeyID")] = None
    previous_key_id: Annotated[str | None, Field(alias="previousKeyID")] = None
    key_time: Annotated[Time | None, Field(alias="currentKeyTime")] = None
    last_rotation: Annotated[Time | None, Field(alias="lastRotationTime")] = None
    next_rotation: Annotated[Time | None, Field(alias="nextRotationTime")] = None
    confirmed: Annotated[Time | None, Field(alias="confirmedTime")] = None
    overlap_until: Annotated[Time | None, Field(alias="overlapUntil")] = None
    pending: Pending | None = None
    failure: Failure | None = None
    rotate_now: Annotated[str | None, Field(alias="handledRotateNow")] = None
    ignored_leak: Annotated[int | None, Field(alias="ignoredEmergencyRevoke")] = None
    discards: Annotated[int, Field(alias="discardedKeys")] = 0
    """New keys in a row that did not work and were given up."""

    unconfirmed: Annotated[tuple[str, ...], Field(alias="unconfirmedPods")] = ()
    conditions: list[Condition] = field(default_factory=list)

    def enter(self, phase: Phase, now: datetime, **changes: Any) -> "RotationStatus":
        """The status in another phase: a success, so that failures are forgotten."""
        return replace(self, phase=phase, phase_since=now, failure=None, **changes)

    def failed(self, reason: str, message: str, now: datetime, *, pause: timedelta | None = None) -> "RotationStatus":
        """Counts a failure and says when to try again: after `pause`, or later each time."""
        count = self.failure.count + 1 if self.failure else 1
        pause = pause or min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(count - 1, 10))
        return replace(self, failure=Failure(count, reason, plain(message, 500), now + pause))

    def retried_soon(self, now: datetime) -> "RotationStatus":
        """The next attempt soon, whatever pause an earlier failure asked for."""
        if self.failure is None or self.failure.next_attempt <= now + EMERGENCY_BACKOFF:
            return self
        return replace(self, failure=replace(self.failure, next_attempt=now + EMERGENCY_BACKOFF))

    def synced(self, secret: TargetSecret | None) -> "RotationStatus":
        """What the Secret says of keys, unless it is older than what we know.

        Of the revision that we know, our own ids count: a stripped annotation must not make the key in use an unknown one.
        """
        if secret is None or secret.foreign or secret.revision < max(self.revision, 1):
            return self
        known = self if secret.revision == self.revision else RotationStatus()
        previous = known.previous_key_id or secret.previous_key_id
        return replace(
            self,
            revision=secret.revision,
            key_id=known.key_id or secret.key_id,
            previous_key_id=previous if secret.has_previous else None,
            key_time=secret.rotated_at or known.key_time,
        )


_STATUS = TypeAdapter(RotationStatus)
_FAILURE = TypeAdapter(Failure)


def read_status(block: Mapping[str, Any]) -> RotationStatus:
    """From an object's `status`. Raises ValueError for another shape, which the definition refuses."""
    return _STATUS.validate_python(block)


def dump_status(status: RotationStatus) -> ConditionedStatus:
    """For an object's `status`: what is not known is left out."""
    found: ConditionedStatus = _STATUS.dump_python(status, mode="json", by_alias=True, exclude_none=True)
    return found


def dump_failure(failure: Failure) -> dict[str, Any]:
    """For `status.failure`."""
    found: dict[str, Any] = _FAILURE.dump_python(failure, mode="json", by_alias=True)
    return found
