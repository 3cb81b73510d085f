"""The state machine: from the situation to the one thing to do next. Pure.

    Idle -> Minting -> Verifying -> Confirming -> Overlapping -> Revoking -> Idle

A key that we present to a provider is published when it works, and the old one is revoked when every pod has the new one.
A key that our pods check goes the other way round: every pod accepts it before anyone is given it to use.

TRANSITIONS is the machine. docs/developer/rotation.md shows it, with the first line of each event's docstring
(`make rotation-docs`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent_operator.reconcile.rotation.due import cause
from agent_operator.reconcile.rotation.situation import Situation
from agent_operator.reconcile.rotation.status import Phase

POLL = timedelta(seconds=2)
"""Between two looks at the pods: the kubelet brings a Secret to them within a minute or two."""

SLOWEST_POLL = timedelta(seconds=30)
"""When it has taken minutes: a tenth of the time waited so far, up to this."""

IDLE_LOOK = timedelta(minutes=5)
"""Between two looks at the Secret when nothing is due: somebody may have deleted it."""


class Effect(StrEnum):
    """What is done to the provider, the Secret and the status. Each may be repeated after a crash."""

    WAIT = "Wait"
    """Nothing, until an event or a time."""
    JOURNAL = "Journal"
    """Write down what will be made, before it is made."""
    MINT = "Mint"
    """Delete what an attempt before this one may have left, make the key, stage it."""
    VERIFY = "Verify"
    """Try the key where it is for; a key that pods check: make it known to them."""
    PUBLISH = "Publish"
    """The staged key becomes the current one, and the current one the previous."""
    REVOKE = "Revoke"
    """Delete every old key of ours at the provider, then take it out of the Secret."""
    DISCARD = "Discard"
    """Give up the staged key. The one in use stays."""
    ENTER = "Enter"
    """Nothing but another phase."""


@dataclass(frozen=True, slots=True)
class Action:
    """The one thing to do now. `phase` is entered when the effect has succeeded; `until` bounds a wait."""

    effect: Effect
    reason: str = ""
    phase: Phase | None = None
    until: datetime | None = None
    hurried: bool = False
    """An emergency: pods that still hold the old key are not waited for."""


Event = Callable[[Situation], bool]


@dataclass(frozen=True, slots=True)
class Transition:
    """In one of `phases`, when `event` is so and that of no row above it: `effect`, then `phase`; None stays."""

    phases: tuple[Phase, ...]
    event: Event
    effect: Effect
    phase: Phase | None = None
    reason: str | Callable[[Situation], str] = ""
    until: Callable[[Situation], datetime | None] = lambda _: None
    hurried: bool = False

    def action(self, situation: Situation) -> Action:
        """What the row says, with the reason and the time of this situation."""
        reason = self.reason if isinstance(self.reason, str) else self.reason(situation)
        return Action(self.effect, reason, self.phase, self.until(situation), self.hurried)


def step(situation: Situation) -> Action:
    """The first row of TRANSITIONS that fits. The last row of each phase always does."""
    return next(row for row in TRANSITIONS if situation.phase in row.phases and row.event(situation)).action(situation)


def stuck(situation: Situation) -> bool:
    """A phase takes longer than the deadline; the planned overlap does not count."""
    status, now = situation.status, situation.now
    if status.phase is Phase.IDLE:
        return status.discards > 1
    begun = max(filter(None, (status.phase_since, status.overlap_until)), default=now)
    return now - begun > situation.spec.deadline


# Events.


def always(_: Situation) -> bool:
    """otherwise"""
    return True


def secret_is_foreign(s: Situation) -> bool:
    """the target Secret does not carry our label"""
    return s.secret is not None and s.secret.foreign


def paused(s: Situation) -> bool:
    """the object is paused, and no emergency"""
    return s.requests.paused and not s.emergency


def nothing_due(s: Situation) -> bool:
    """no rotation is due"""
    return cause(s) is None


def backing_off(s: Situation) -> bool:
    """the last attempt failed, and the next one is not due (except when superseded)"""
    return s.status.failure is not None and s.now < s.status.failure.next_attempt and not superseded(s)


def key_published(s: Situation) -> bool:
    """the Secret holds the new revision: published before a crash"""
    return s.published >= s.pending_revision


def key_staged(s: Situation) -> bool:
    """the Secret holds the new key as `next`: staged before a crash"""
    return s.staged


def staged_key_lost(s: Situation) -> bool:
    """the Secret does not hold the new key"""
    return not s.staged


def verified_key_lost(s: Situation) -> bool:
    """the Secret does not hold the new key, which was verified: it may have been published, so its name is not used again"""
    return not s.staged and verified(s)


def verified(s: Situation) -> bool:
    """the new key was verified"""
    return s.status.pending is not None and s.status.pending.verified


def unverified(s: Situation) -> bool:
    """the new key is not verified yet"""
    return not verified(s)


def verify_overdue(s: Situation) -> bool:
    """a presented key has failed for longer than `verify.timeout`"""
    return unverified(s) and s.spec.kind.presented and s.status.failure is not None and s.in_phase_for(s.spec.verify_timeout)


def emergency(s: Situation) -> bool:
    """the revision that is being replaced leaked"""
    return s.emergency


def emergency_overdue(s: Situation) -> bool:
    """an emergency, and pods had `emergency.confirmTimeout`"""
    return s.emergency and s.in_phase_for(s.spec.emergency.confirm_timeout)


def may_publish(s: Situation) -> bool:
    """the key is presented, or every pod accepts it"""
    return s.spec.kind.presented or s.gate.open


def secret_lost(s: Situation) -> bool:
    """the Secret is gone, or older than what was published"""
    return s.published < s.status.revision


def pods_confirmed(s: Situation) -> bool:
    """every pod has the new key"""
    return s.gate.open


def pods_behind(s: Situation) -> bool:
    """a pod has not: one that came meanwhile"""
    return not s.gate.open


def overlapping(s: Situation) -> bool:
    """the overlap is not over"""
    return s.status.overlap_until is not None and s.now < s.status.overlap_until


def superseded(s: Situation) -> bool:
    """the revoke fails, and the next rotation is due: its revoke takes both keys"""
    failing = s.phase is Phase.REVOKING and s.status.failure is not None
    return failing and s.status.next_rotation is not None and s.now >= s.status.next_rotation


def emergency_revoke(s: Situation) -> bool:
    """an emergency, and every pod has the new key or had `emergency.confirmTimeout` since it was published"""
    published = s.status.key_time
    waited = published is None or s.now - published >= s.spec.emergency.confirm_timeout
    return s.emergency and (s.gate.open or waited)


# Times and reasons of waits.


def _next_look(s: Situation) -> datetime:
    return min(filter(None, (s.status.next_rotation, _idle_look(s))))


def _idle_look(s: Situation) -> datetime:
    return s.now + IDLE_LOOK


def _next_attempt(s: Situation) -> datetime | None:
    return s.status.failure.next_attempt if s.status.failure else None


def _overlap_end(s: Situation) -> datetime | None:
    return s.status.overlap_until


def _next_poll(s: Situation) -> datetime:
    waited = s.now - (s.status.phase_since or s.now)
    return s.now + max(POLL, min(SLOWEST_POLL, waited / 10))


def _failure(s: Situation) -> str:
    """the failure's"""
    return s.status.failure.reason if s.status.failure else ""


def _cause(s: Situation) -> str:
    """the cause"""
    return cause(s) or ""


ALL = tuple(Phase)
IDLE, MINTING, VERIFYING = (Phase.IDLE,), (Phase.MINTING,), (Phase.VERIFYING,)
CONFIRMING, OVERLAPPING, REVOKING = (Phase.CONFIRMING,), (Phase.OVERLAPPING,), (Phase.REVOKING,)
REPLACING = (*CONFIRMING, *OVERLAPPING, *REVOKING)
"""The new key is published, the old one still there."""

TRANSITIONS = (
    Transition(ALL, secret_is_foreign, Effect.WAIT, reason="ForeignSecret", until=_idle_look),
    Transition(ALL, paused, Effect.WAIT, reason="Paused"),
    Transition(IDLE, nothing_due, Effect.WAIT, reason="Scheduled", until=_next_look),
    Transition(ALL, backing_off, Effect.WAIT, reason=_failure, until=_next_attempt),
    Transition(IDLE, always, Effect.JOURNAL, Phase.MINTING, _cause),
    Transition(MINTING, key_published, Effect.ENTER, Phase.CONFIRMING, "Published"),
    Transition(MINTING, key_staged, Effect.ENTER, Phase.VERIFYING, "Staged"),
    Transition(MINTING, always, Effect.MINT, Phase.VERIFYING),
    Transition(VERIFYING, key_published, Effect.ENTER, Phase.CONFIRMING, "Published"),
    Transition(VERIFYING, verified_key_lost, Effect.ENTER, Phase.IDLE, "StagedKeyLost"),
    Transition(VERIFYING, staged_key_lost, Effect.ENTER, Phase.MINTING, "StagedKeyLost"),
    Transition(VERIFYING, verify_overdue, Effect.DISCARD, Phase.IDLE, "VerifyTimeout"),
    Transition(VERIFYING, unverified, Effect.VERIFY),
    Transition(VERIFYING, emergency_overdue, Effect.PUBLISH, Phase.CONFIRMING, hurried=True),
    Transition(VERIFYING, may_publish, Effect.PUBLISH, Phase.CONFIRMING),
    Transition(VERIFYING, always, Effect.WAIT, reason="PodsNotConfirmed", until=_next_poll),
    Transition(REPLACING, secret_lost, Effect.ENTER, Phase.IDLE, "SecretLost"),
    Transition(CONFIRMING, pods_confirmed, Effect.ENTER, Phase.OVERLAPPING, "Confirmed"),
    Transition(CONFIRMING, emergency_overdue, Effect.ENTER, Phase.REVOKING, "Emergency", hurried=True),
    Transition(CONFIRMING, always, Effect.WAIT, reason="PodsNotConfirmed", until=_next_poll),
    Transition(OVERLAPPING, emergency, Effect.ENTER, Phase.REVOKING, "Emergency"),
    Transition(OVERLAPPING, overlapping, Effect.WAIT, reason="Overlap", until=_overlap_end),
    Transition(OVERLAPPING, pods_behind, Effect.WAIT, reason="PodsNotConfirmed", until=_next_poll),
    Transition(OVERLAPPING, always, Effect.ENTER, Phase.REVOKING, "OverlapEnded"),
    Transition(REVOKING, superseded, Effect.ENTER, Phase.IDLE, "Superseded"),
    Transition(REVOKING, emergency_revoke, Effect.REVOKE, Phase.IDLE, hurried=True),
    Transition(REVOKING, pods_confirmed, Effect.REVOKE, Phase.IDLE),
    Transition(REVOKING, always, Effect.WAIT, reason="PodsNotConfirmed", until=_next_poll),
)
