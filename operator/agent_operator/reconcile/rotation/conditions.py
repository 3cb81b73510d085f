"""What a rotation says of itself: conditions, and the events of what changed. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from agent_operator.clock import timestamp
from agent_operator.manifests.conditions import Status as Truth
from agent_operator.manifests.conditions import find_condition, set_condition
from agent_operator.reconcile.rotation.machine import Action, Do, Observed, stuck
from agent_operator.reconcile.rotation.model import Identity, Spec
from agent_operator.reconcile.rotation.status import Phase, Status

NOT_READY = {"ForeignSecret", "SecretLost"}

HELP = {
    "ForeignSecret": "the target Secret is not ours; the label slipway.dev/keyrotation=<name of this object> on it hands it over",
    "SecretLost": "the target Secret is gone, or older than what was published",
    "Paused": "the annotation slipway.dev/paused holds everything back",
}


@dataclass(frozen=True, slots=True)
class Note:
    """An Event to be posted."""

    reason: str
    message: str
    warning: bool = False


def judged(spec: Spec, identity: Identity, status: Status, seen: Observed, action: Action, now: datetime) -> Status:
    """The status with its conditions, as they are after `action`."""
    conditions = status.conditions
    for type_, (truth, reason, message) in _judgements(spec, identity, status, seen, action, now).items():
        conditions = set_condition(conditions, type_, truth, reason, message, generation=identity.generation, now=now)
    return replace(status, conditions=conditions, generation=identity.generation)


def notes(before: Status, after: Status) -> list[Note]:
    """What is worth an Event: each phase, each new failure, and getting stuck."""
    found = []
    if after.phase is not before.phase:
        found.append(Note(after.phase, _told(after)))
    if after.failure and (before.failure is None or before.failure.reason != after.failure.reason):
        found.append(Note(after.failure.reason, after.failure.message, warning=True))
    now, was = (find_condition(each.conditions, "Stuck") for each in (after, before))
    if now and now["status"] == "True" and (was is None or was["status"] != "True"):
        found.append(Note("RotationStuck", now["message"], warning=True))
    return found


def _judgements(
    spec: Spec, identity: Identity, status: Status, seen: Observed, action: Action, now: datetime
) -> dict[str, tuple[Truth, str, str]]:
    paused = identity.orders.paused
    return {
        "Ready": _ready(status, seen, action),
        "Stuck": _stuck(spec, status, seen, now),
        "OldKeyRevoked": _old_key(status, seen),
        "Paused": ("True", "Annotation", HELP["Paused"])
        if paused
        else ("False", "NotPaused", "rotations are made when they are due"),
    }


def _ready(status: Status, seen: Observed, action: Action) -> tuple[Truth, str, str]:
    if action.do is Do.WAIT and action.reason in NOT_READY:
        return "False", action.reason, HELP[action.reason]
    if status.revision == 0:
        failure = status.failure
        return "False", failure.reason if failure else "FirstKey", failure.message if failure else "no key is published yet"
    if seen.revision < status.revision and status.phase is Phase.IDLE:
        return "False", "SecretLost", HELP["SecretLost"]
    return "True", "KeyPublished", f"revision {status.revision} is published"


def _stuck(spec: Spec, status: Status, seen: Observed, now: datetime) -> tuple[Truth, str, str]:
    if not stuck(spec, status, now):
        return "False", "OnTime", "no rotation is past its deadline"
    if status.failure:
        return "True", status.failure.reason, f"{status.phase}: {status.failure.message}"
    kept = "; the old key stays valid meanwhile" if seen.secret and seen.secret.has_previous else ""
    return "True", "PodsNotConfirmed", f"{status.phase}: {seen.gate.message}{kept}"


def _old_key(status: Status, seen: Observed) -> tuple[Truth, str, str]:
    if status.phase is Phase.REVOKING and status.failure:
        return "False", status.failure.reason, status.failure.message
    if seen.secret and seen.secret.has_previous:
        until = f" until {timestamp(status.overlap_until)}" if status.overlap_until else ""
        return "False", "InUse", f"the key before revision {status.revision} is kept{until}"
    return "True", "Revoked", "only the current key is valid"


def _told(status: Status) -> str:
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
