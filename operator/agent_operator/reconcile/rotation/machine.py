"""The state machine: from what is wanted, remembered and seen to the one thing to do next. Pure.

    Idle -> Minting -> Verifying -> Confirming -> Overlapping -> Revoking -> Idle

A key that we present to a provider is published when it works, and the old one is revoked when every pod has the new one.
A key that our pods check goes the other way round: every pod accepts it before anyone is given it to use.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from agent_operator.reconcile.rotation.consumers import Gate
from agent_operator.reconcile.rotation.model import Orders, Spec
from agent_operator.reconcile.rotation.secret import TargetSecret
from agent_operator.reconcile.rotation.status import Pending, Phase, Status

POLL = timedelta(seconds=2)
"""Between two looks at the pods: the kubelet brings a Secret to them within a minute or two."""

SLOWEST_POLL = timedelta(seconds=30)
"""When it has taken minutes: a tenth of the time waited so far, up to this."""

IDLE_LOOK = timedelta(minutes=5)
"""Between two looks at the Secret when nothing is due: somebody may have deleted it."""


class Do(StrEnum):
    WAIT = "Wait"
    JOURNAL = "Journal"
    """Write down what will be made, before it is made."""
    MINT = "Mint"
    """Delete what an attempt before this one may have left, make the key, stage it."""
    VERIFY = "Verify"
    PUBLISH = "Publish"
    REVOKE = "Revoke"
    """Delete every old key of ours at the provider, then take it out of the Secret."""
    DISCARD = "Discard"
    """Give up the staged key. The one in use stays."""
    ENTER = "Enter"
    """Nothing but another phase."""


@dataclass(frozen=True, slots=True)
class Action:
    do: Do
    reason: str = ""
    phase: Phase | None = None
    until: datetime | None = None
    hurried: bool = False
    """An emergency: pods that still hold the old key are not waited for."""


@dataclass(frozen=True, slots=True)
class Observed:
    secret: TargetSecret | None
    gate: Gate = field(default_factory=Gate)

    @property
    def revision(self) -> int:
        return self.secret.revision if self.secret else 0


def step(spec: Spec, orders: Orders, status: Status, seen: Observed, now: datetime) -> Action:
    held = _held(orders, status, seen, now)
    if held:
        return held
    if status.phase is Phase.IDLE or status.pending is None:
        return _idle(orders, status, seen, now)
    if status.failure and now < status.failure.next_attempt and not _superseded(status, now):
        return _wait(status.failure.reason, status.failure.next_attempt)
    if status.phase is Phase.MINTING:
        return _minting(status.pending, seen)
    if status.phase is Phase.VERIFYING:
        return _verifying(spec, orders, status, status.pending, seen, now)
    return _replacing(spec, orders, status, seen, now)


def _held(orders: Orders, status: Status, seen: Observed, now: datetime) -> Action | None:
    if seen.secret and seen.secret.foreign:
        return _wait("ForeignSecret", now + IDLE_LOOK)
    if orders.paused and not emergency(orders, status):
        return _wait("Paused", None)
    return None


def _replacing(spec: Spec, orders: Orders, status: Status, seen: Observed, now: datetime) -> Action:
    """The new key is published, the old one still there."""
    if seen.revision < status.revision:
        return Action(Do.ENTER, "SecretLost", Phase.IDLE)
    if status.phase is Phase.CONFIRMING:
        return _confirming(spec, orders, status, seen, now)
    if status.phase is Phase.OVERLAPPING:
        return _overlapping(orders, status, seen, now)
    return _revoking(spec, orders, status, seen, now)


def emergency(orders: Orders, status: Status) -> bool:
    """The leaked revision is in use, or is being replaced at this moment."""
    if orders.leaked is None or orders.leaked == status.ignored_leak:
        return False
    replaced = status.pending.revision - 1 if status.pending else status.revision
    return replaced <= orders.leaked and orders.leaked <= status.revision


def due(orders: Orders, status: Status, seen: Observed, now: datetime) -> str | None:
    """Why a rotation begins now; None when it does not."""
    if emergency(orders, status):
        return "Emergency"
    if seen.revision == 0 and status.revision == 0:
        return "FirstKey"
    if seen.revision < status.revision:
        return "SecretLost"
    if orders.rotate_now and orders.rotate_now != status.rotate_now:
        return "RotateNow"
    if status.next_rotation and now >= status.next_rotation:
        return "Scheduled"
    return None


def stuck(spec: Spec, status: Status, now: datetime) -> bool:
    """A phase takes longer than the deadline; the planned overlap does not count."""
    if status.phase is Phase.IDLE:
        return status.discards > 1
    begun = max(filter(None, (status.phase_since, status.overlap_until)), default=now)
    return now - begun > spec.deadline


def _idle(orders: Orders, status: Status, seen: Observed, now: datetime) -> Action:
    cause = due(orders, status, seen, now)
    if cause is None:
        return _wait("Scheduled", min(filter(None, (status.next_rotation, now + IDLE_LOOK))))
    if status.failure and now < status.failure.next_attempt:
        return _wait(status.failure.reason, status.failure.next_attempt)
    return Action(Do.JOURNAL, cause)


def _minting(pending: Pending, seen: Observed) -> Action:
    if seen.revision >= pending.revision:
        return Action(Do.ENTER, "Published", Phase.CONFIRMING)
    if seen.secret and seen.secret.next_revision == pending.revision:
        return Action(Do.ENTER, "Staged", Phase.VERIFYING)
    return Action(Do.MINT)


def _verifying(spec: Spec, orders: Orders, status: Status, pending: Pending, seen: Observed, now: datetime) -> Action:
    if seen.revision >= pending.revision:
        return Action(Do.ENTER, "Published", Phase.CONFIRMING)
    if seen.secret is None or seen.secret.next_revision != pending.revision:
        # A verified key may have been published before the Secret was deleted. Pods may use it: its name is not used again.
        return Action(Do.ENTER, "StagedKeyLost", Phase.IDLE if pending.verified else Phase.MINTING)
    hurried = _hurried(spec, orders, status, now)
    if not pending.verified:
        overdue = spec.kind.presented and status.failure and _passed(status, spec.verify_timeout, now)
        return Action(Do.DISCARD, "VerifyTimeout") if overdue else Action(Do.VERIFY)
    if spec.kind.presented or seen.gate.open or hurried:
        return Action(Do.PUBLISH, hurried=hurried)
    return _wait("PodsNotConfirmed", now + _poll(status, now))


def _confirming(spec: Spec, orders: Orders, status: Status, seen: Observed, now: datetime) -> Action:
    if seen.gate.open:
        return Action(Do.ENTER, "Confirmed", Phase.OVERLAPPING)
    if _hurried(spec, orders, status, now):
        return Action(Do.ENTER, "Emergency", Phase.REVOKING, hurried=True)
    return _wait("PodsNotConfirmed", now + _poll(status, now))


def _overlapping(orders: Orders, status: Status, seen: Observed, now: datetime) -> Action:
    if emergency(orders, status):
        return Action(Do.ENTER, "Emergency", Phase.REVOKING)
    if status.overlap_until and now < status.overlap_until:
        return _wait("Overlap", status.overlap_until)
    if not seen.gate.open:  # a pod that came meanwhile
        return _wait("PodsNotConfirmed", now + _poll(status, now))
    return Action(Do.ENTER, "OverlapEnded", Phase.REVOKING)


def _revoking(spec: Spec, orders: Orders, status: Status, seen: Observed, now: datetime) -> Action:
    if _superseded(status, now):
        return Action(Do.ENTER, "Superseded", Phase.IDLE)
    hurried = emergency(orders, status)
    if seen.gate.open or (hurried and _waited_for_pods(spec, status, now)):
        return Action(Do.REVOKE, hurried=hurried)
    return _wait("PodsNotConfirmed", now + _poll(status, now))


def _superseded(status: Status, now: datetime) -> bool:
    """The provider does not delete the old key, and the next rotation is due: the next revoke takes both."""
    failing = status.phase is Phase.REVOKING and status.failure is not None
    return failing and status.next_rotation is not None and now >= status.next_rotation


def _hurried(spec: Spec, orders: Orders, status: Status, now: datetime) -> bool:
    return emergency(orders, status) and _passed(status, spec.emergency_confirm, now)


def _waited_for_pods(spec: Spec, status: Status, now: datetime) -> bool:
    return status.key_time is None or now - status.key_time >= spec.emergency_confirm


def _passed(status: Status, limit: timedelta, now: datetime) -> bool:
    return status.phase_since is not None and now - status.phase_since >= limit


def _poll(status: Status, now: datetime) -> timedelta:
    waited = now - (status.phase_since or now)
    return max(POLL, min(SLOWEST_POLL, waited / 10))


def _wait(reason: str, until: datetime | None) -> Action:
    return Action(Do.WAIT, reason, until=until)
