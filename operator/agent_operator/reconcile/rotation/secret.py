"""The target Secret: files `current`, `previous`, `revision`, and `next` while a new key is staged.

A key and its id are always written together, so that what can be revoked is known wherever a crash happens. Pure: from a
manifest to the next one; `metadata.resourceVersion` stays, and guards the write.
"""

import base64
import copy
from dataclasses import dataclass, field
from datetime import datetime

from agent_operator.reconcile.consent import consents
from slipway_clients.clock import parse_timestamp, timestamp
from slipway_clients.cluster import Manifest

OWNER = "slipway.dev/keyrotation"
"""Label: the KeyRotation that writes this Secret. Putting it on a Secret by hand hands that Secret over."""

KEY_ID = "slipway.dev/key-id"
PREVIOUS_KEY_ID = "slipway.dev/previous-key-id"
NEXT_KEY_ID = "slipway.dev/next-key-id"
NEXT_REVISION = "slipway.dev/next-revision"
ROTATED_AT = "slipway.dev/rotated-at"

FILES = ("current", "previous", "next", "revision")
MANAGED_BY = "slipway-operator"


@dataclass(frozen=True, slots=True)
class TargetSecret:
    """What the Secret tells of its keys."""

    foreign: bool = False
    revision: int = 0
    key_id: str | None = None
    previous_key_id: str | None = None
    has_previous: bool = False
    next_key_id: str | None = None
    next_revision: int | None = None
    rotated_at: datetime | None = None
    manifest: Manifest = field(default_factory=dict, repr=False)
    """As it was read, with the keys."""


def read_secret(manifest: Manifest | None, owner: str) -> TargetSecret | None:
    """None when there is no Secret. One without our label, or with somebody else's, is foreign."""
    if manifest is None:
        return None
    metadata, data = manifest["metadata"], manifest.get("data") or {}
    notes = metadata.get("annotations") or {}
    if not consents(manifest, OWNER, owner):
        return TargetSecret(foreign=True, manifest=manifest)
    staged = notes.get(NEXT_REVISION, "") if "next" in data else ""
    return TargetSecret(
        revision=_number(read_value(manifest, "revision")) if "current" in data else 0,
        key_id=notes.get(KEY_ID),
        previous_key_id=notes.get(PREVIOUS_KEY_ID),
        has_previous="previous" in data,
        next_key_id=notes.get(NEXT_KEY_ID),
        next_revision=int(staged) if staged.isdecimal() else None,
        rotated_at=parse_timestamp(notes[ROTATED_AT]) if ROTATED_AT in notes else None,
        manifest=manifest,
    )


def new_secret(namespace: str, name: str, owner: str) -> Manifest:
    """An empty one, which the KeyRotation `owner` may write."""
    # No ownerReference: pods that mount it must be able to start after the KeyRotation is gone.
    labels = {OWNER: owner, "app.kubernetes.io/managed-by": MANAGED_BY}
    metadata = {"namespace": namespace, "name": name, "labels": labels, "annotations": {}}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": {}}


def made_here(manifest: Manifest) -> bool:
    """Whether `new_secret` was its beginning, and not somebody who handed it over."""
    return bool((manifest["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by") == MANAGED_BY)


def emptied(manifest: Manifest) -> Manifest:
    """Without any key, and without what was noted of them."""
    changed, data, notes = _copy(manifest)
    for file in FILES:
        data.pop(file, None)
    for note in (KEY_ID, PREVIOUS_KEY_ID, NEXT_KEY_ID, NEXT_REVISION, ROTATED_AT):
        notes.pop(note, None)
    return changed


def staged(manifest: Manifest, value: str, key_id: str, revision: int, *, announced: bool) -> Manifest:
    """The new key as `next`. Pods that check keys are told by `revision`, so that they can report that they accept it."""
    changed, data, notes = _copy(manifest)
    data["next"] = _encode(value)
    notes |= {NEXT_KEY_ID: key_id, NEXT_REVISION: str(revision)}
    if announced:
        data["revision"] = _encode(f"{revision}-next")
    return changed


def published(manifest: Manifest, now: datetime) -> Manifest:
    """The staged key becomes `current`, the current one `previous`: one write, so that no pod sees half of it."""
    changed, data, notes = _copy(manifest)
    _move(data, "current", "previous")
    _move(data, "next", "current")
    _move(notes, KEY_ID, PREVIOUS_KEY_ID)
    _move(notes, NEXT_KEY_ID, KEY_ID)
    data["revision"] = _encode(notes.pop(NEXT_REVISION))
    notes[ROTATED_AT] = timestamp(now)
    return changed


def retired(manifest: Manifest) -> Manifest:
    """Without the previous key."""
    changed, data, notes = _copy(manifest)
    data.pop("previous", None)
    notes.pop(PREVIOUS_KEY_ID, None)
    return changed


def discarded(manifest: Manifest) -> Manifest:
    """Without the staged key."""
    changed, data, notes = _copy(manifest)
    data.pop("next", None)
    notes.pop(NEXT_KEY_ID, None)
    announced = notes.pop(NEXT_REVISION, None)
    if announced and "current" in data and read_value(manifest, "revision") == f"{announced}-next":
        data["revision"] = _encode(str(int(announced) - 1))
    return changed


def read_value(manifest: Manifest, name: str) -> str:
    """One file of the Secret; empty when it is missing."""
    return base64.b64decode((manifest.get("data") or {}).get(name, "")).decode(errors="replace").strip()


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _number(text: str) -> int:
    """`7`, and 7 for `8-next`: what is published while 8 is staged."""
    number, _, rest = text.partition("-")
    return (int(number) - bool(rest)) if number.isdecimal() else 0


def _copy(manifest: Manifest) -> tuple[Manifest, dict[str, str], dict[str, str]]:
    changed = copy.deepcopy(manifest)
    changed["data"] = changed.get("data") or {}
    changed["metadata"]["annotations"] = changed["metadata"].get("annotations") or {}
    return changed, changed["data"], changed["metadata"]["annotations"]


def _move(values: dict[str, str], source: str, target: str) -> None:
    if source in values:
        values[target] = values.pop(source)
    else:
        values.pop(target, None)
