"""What a rotation says of itself: conditions, Events of what changed, metrics. Pure but for the metrics."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from prometheus_client import Gauge

from agent_operator.manifests.conditions import Verdict, find_condition, is_true, set_conditions
from agent_operator.metrics import Metrics
from agent_operator.reconcile.rotation.machine import Action, Effect, stuck
from agent_operator.reconcile.rotation.situation import Situation
from agent_operator.reconcile.rotation.status import Phase, RotationStatus
from slipway_clients.clock import timestamp

NAMED_PODS = 50
"""Pods that the status names. A status is an object in etcd, and who reads it looks at the first of them."""

NOT_READY = {"ForeignSecret", "SecretLost"}

HELP = {
    "ForeignSecret": "the target Secret is not ours; the label slipway.dev/keyrotation=<name of this object> on it hands it over",
    "SecretLost": "the target Secret is gone, or older than what was published",
    "Paused": "the annotation slipway.dev/paused holds everything back",
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """An Event to be posted on the object."""

    reason: str
    message: str
    warning: bool = False


def with_conditions(situation: Situation, action: Action) -> RotationStatus:
    """The status, as it is after `action`, with its conditions."""
    identity, status = situation.identity, replace(situation.status, unconfirmed=situation.gate.missing[:NAMED_PODS])
    verdicts = (_ready(situation, action), _stuck(situation), _old_key(situation), _paused(situation))
    conditions = set_conditions(status.conditions, verdicts, generation=identity.generation, now=situation.now)
    return replace(status, conditions=conditions, generation=identity.generation)


def announcements(before: RotationStatus, after: RotationStatus) -> Iterator[Announcement]:
    """What is worth an Event: each phase, each new failure, and getting stuck."""
    if after.phase is not before.phase:
        yield Announcement(after.phase, _progress(after))
    if after.failure and (before.failure is None or before.failure.reason != after.failure.reason):
        yield Announcement(after.failure.reason, after.failure.message, warning=True)
    stuck_now = find_condition(after.conditions, "Stuck")
    if stuck_now and stuck_now["status"] == "True" and not is_true(before.conditions, "Stuck"):
        yield Announcement("RotationStuck", stuck_now["message"], warning=True)


def set_metrics(metrics: Metrics, situation: Situation) -> None:
    """The status as it stands. An object's series end with `Metrics.forget`."""
    status, labels = situation.status, (situation.identity.namespace, situation.identity.name)
    for phase in Phase:
        metrics.rotation_phase.labels(*labels, phase).set(phase is status.phase)
    metrics.rotation_revision.labels(*labels).set(status.revision)
    metrics.rotation_stuck.labels(*labels).set(is_true(status.conditions, "Stuck"))
    metrics.rotation_pods_behind.labels(*labels).set(len(situation.gate.missing))
    _set_moment(metrics.rotation_phase_start.labels(*labels), status.phase_since)
    _set_moment(metrics.rotation_key_created.labels(*labels), status.key_time)
    _set_moment(metrics.rotation_last_success.labels(*labels), status.last_rotation)
    _set_moment(metrics.rotation_next.labels(*labels), status.next_rotation)


def _set_moment(gauge: Gauge, moment: datetime | None) -> None:
    if moment is not None:
        gauge.set(moment.timestamp())


def _ready(situation: Situation, action: Action) -> Verdict:
    status = situation.status
    if action.effect is Effect.WAIT and action.reason in NOT_READY:
        return Verdict("Ready", "False", action.reason, HELP[action.reason])
    if status.revision == 0:
        failure = status.failure
        message = failure.message if failure else "no key is published yet"
        return Verdict("Ready", "False", failure.reason if failure else "FirstKey", message)
    if situation.published < status.revision and status.phase is Phase.IDLE:
        return Verdict("Ready", "False", "SecretLost", HELP["SecretLost"])
    return Verdict("Ready", "True", "KeyPublished", f"revision {status.revision} is published")


def _stuck(situation: Situation) -> Verdict:
    status = situation.status
    if not stuck(situation):
        return Verdict("Stuck", "False", "OnTime", "no rotation is past its deadline")
    if status.failure:
        return Verdict("Stuck", "True", status.failure.reason, f"{status.phase}: {status.failure.message}")
    kept = "; the old key stays valid meanwhile" if situation.has_old_key else ""
    return Verdict("Stuck", "True", "PodsNotConfirmed", f"{status.phase}: {situation.gate.message}{kept}")


def _old_key(situation: Situation) -> Verdict:
    status = situation.status
    if status.phase is Phase.REVOKING and status.failure:
        return Verdict("OldKeyRevoked", "False", status.failure.reason, status.failure.message)
    if situation.has_old_key:
        until = f" until {timestamp(status.overlap_until)}" if status.overlap_until else ""
        return Verdict("OldKeyRevoked", "False", "InUse", f"the key before revision {status.revision} is kept{until}")
    return Verdict("OldKeyRevoked", "True", "Revoked", "only the current key is valid")


def _paused(situation: Situation) -> Verdict:
    if situation.requests.paused:
        return Verdict("Paused", "True", "Annotation", HELP["Paused"])
    return Verdict("Paused", "False", "NotPaused", "rotations are made when they are due")


def _progress(status: RotationStatus) -> str:
    pending = status.pending
    match status.phase:
        case Phase.MINTING if pending:
            return f"revision {pending.revision} is being made ({pending.cause}); its name is {pending.key_name}"
        case Phase.VERIFYING if pending:
            return f"key {pending.key_id} is staged"
        case Phase.CONFIRMING:
            return f"revision {status.revision} is published, key {status.key_id}"
        case Phase.OVERLAPPING:
            return "every pod has loaded the new key"
        case Phase.REVOKING:
            return f"the key before revision {status.revision} is being revoked"
    return f"revision {status.revision} is in use"
