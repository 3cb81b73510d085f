"""What is known of one rotation at one moment: all that the machine decides from, and all that an effect may use. Pure."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from agent_operator.manifests.rotation_spec import KeyRotationSpec
from agent_operator.reconcile.rotation.consumers import Gate
from agent_operator.reconcile.rotation.secret import TargetSecret
from agent_operator.reconcile.rotation.status import Phase, RotationStatus
from slipway_clients.cluster import Manifest

ROTATE_NOW = "slipway.dev/rotate-now"
"""Annotation: any value that is not the one of the last time asks for a rotation."""

EMERGENCY_REVOKE = "slipway.dev/emergency-revoke"
"""Annotation: the revision that leaked. It and every one before it is revoked as soon as a new key is published."""

PAUSED = "slipway.dev/paused"
"""Annotation `true`: nothing is made, published or revoked. An emergency goes on all the same."""

REVISION = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Requests:
    """What the annotations ask for."""

    rotate_now: str | None = None
    leaked: int | None = None
    paused: bool = False

    @classmethod
    def of(cls, annotations: dict[str, str]) -> Self:
        """Of an object's annotations; a value that is no revision asks for nothing."""
        leaked = annotations.get(EMERGENCY_REVOKE, "").strip()
        return cls(
            rotate_now=annotations.get(ROTATE_NOW) or None,
            leaked=int(leaked) if REVISION.fullmatch(leaked) else None,
            paused=annotations.get(PAUSED, "").lower() == "true",
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Of the object. Names of keys are made from its uid, so that two objects of one name never share a key."""

    namespace: str
    name: str
    uid: str
    generation: int = 1

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Of a KeyRotation as the API server tells of it."""
        metadata = manifest["metadata"]
        return cls(metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("generation", 1))

    @property
    def prefix(self) -> str:
        """With which the names of all its keys begin."""
        return f"slipway-{self.uid}-"

    def key_name(self, revision: int) -> str:
        """Deterministic: a key that was made and lost is found again by it."""
        return f"{self.prefix}r{revision}"


@dataclass(frozen=True, slots=True)
class Situation:
    """One KeyRotation with its Secret and its pods. Each reconcile makes it afresh; nothing changes it."""

    spec: KeyRotationSpec
    identity: Identity
    requests: Requests
    status: RotationStatus
    now: datetime
    secret: TargetSecret | None = None
    gate: Gate = field(default_factory=Gate)
    """Closed where the phase asks no pods."""

    @property
    def phase(self) -> Phase:
        """Idle, too, when the status holds nothing that is being made."""
        return self.status.phase if self.status.pending else Phase.IDLE

    @property
    def published(self) -> int:
        """The revision that the Secret holds; 0 without one."""
        return self.secret.revision if self.secret else 0

    @property
    def pending_revision(self) -> int:
        """Of the key that is being made; 0 while none is."""
        return self.status.pending.revision if self.status.pending else 0

    @property
    def staged(self) -> bool:
        """The Secret holds the new key as `next`."""
        return self.secret is not None and self.secret.next_revision == self.pending_revision

    @property
    def has_old_key(self) -> bool:
        """The Secret holds the key before the current one."""
        return self.secret is not None and self.secret.has_previous

    @property
    def emergency(self) -> bool:
        """The leaked revision is in use, or is being replaced at this moment."""
        leaked, status = self.requests.leaked, self.status
        if leaked is None or leaked == status.ignored_leak:
            return False
        replaced = status.pending.revision - 1 if status.pending else status.revision
        return replaced <= leaked <= status.revision

    def in_phase_for(self, limit: timedelta) -> bool:
        """Whether the phase has lasted that long."""
        return self.status.phase_since is not None and self.now - self.status.phase_since >= limit
