"""What each action does to the provider, the Secret and the status. Every one may be repeated after a crash."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent_operator.cluster import Manifest
from agent_operator.providers import ProviderError
from agent_operator.reconcile.rotation.conditions import Note
from agent_operator.reconcile.rotation.machine import Action, Do, Observed
from agent_operator.reconcile.rotation.model import Identity, Spec
from agent_operator.reconcile.rotation.schedule import is_open, next_open, next_rotation
from agent_operator.reconcile.rotation.secret import (
    TargetSecret,
    discarded,
    new_secret,
    published,
    read_value,
    retired,
    staged,
)
from agent_operator.reconcile.rotation.sources import KeySource, Sources
from agent_operator.reconcile.rotation.status import Failure, Pending, Phase, Status
from agent_operator.reconcile.tools import Tools

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
"""After a new key that did not work. Each attempt makes a key, so that these pauses are longer than those of a call."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One object as it was read, with its Secret."""

    spec: Spec
    identity: Identity
    secret: Manifest | None
    target: TargetSecret | None

    def due_after(self, since: datetime) -> datetime | None:
        seed = f"{self.identity.uid}/{since.timestamp():.0f}"
        return next_rotation(self.spec.schedule, self.spec.key_lifetime, since, seed)

    def postponed(self, due: datetime | None, since: datetime | None, now: datetime) -> datetime | None:
        """A time that was missed (operator away, object paused) moves to the next open window, unless the key expires."""
        spec = self.spec
        if due is None or now < due or spec.schedule is None or is_open(spec.schedule, now):
            return due
        expiring = next_rotation(None, spec.key_lifetime, since, "") if since else None
        return due if expiring and now >= expiring else next_open(spec.schedule, now)


Done = tuple[Status, list[Note]]


@dataclass(frozen=True, slots=True)
class Effects:
    tools: Tools
    sources: Sources
    scene: Scene
    seen: Observed
    now: datetime

    async def perform(self, action: Action, status: Status) -> Done:
        """The status after the action, and what is to be told.

        Raises:
            ProviderError, NotHolder, ClusterError: the action did not happen, or its end is not known.
        """
        if action.do is Do.JOURNAL:
            return self._journal(status, action.reason), []
        if action.do is Do.ENTER and action.phase:
            return self._enter(status, action.phase), []
        if action.do is Do.REVOKE:
            return await self._revoke(status, hurried=action.hurried)
        assert status.pending is not None  # noqa: S101  # the machine's other actions are about a pending key
        perform = {Do.MINT: self._mint, Do.VERIFY: self._verify, Do.PUBLISH: self._publish, Do.DISCARD: self._discard}
        return await perform[action.do](status, status.pending), []

    def _journal(self, status: Status, cause: str) -> Status:
        orders = self.scene.identity.orders
        revision = max(status.revision, self.seen.revision) + 1
        pending = Pending(revision, self.scene.identity.key_name(revision), self.now, cause)
        return status.enter(Phase.MINTING, self.now, pending=pending, rotate_now=orders.rotate_now, overlap_until=None)

    def _enter(self, status: Status, phase: Phase) -> Status:
        changed = status.enter(phase, self.now)
        match phase:
            case Phase.IDLE:
                spent = status.pending.revision if status.pending and status.pending.verified else 0
                return replace(changed, pending=None, overlap_until=None, revision=max(status.revision, spent))
            case Phase.VERIFYING | Phase.MINTING:
                return replace(changed, pending=self._pending(status, phase))
            case Phase.CONFIRMING:
                return self._published(changed)
            case Phase.OVERLAPPING:
                wait = self.scene.spec.overlap if self._has_old_key else timedelta()
                return replace(changed, confirmed=self.now, overlap_until=self.now + wait)
        return changed

    def _pending(self, status: Status, phase: Phase) -> Pending | None:
        key_id = self.scene.target.next_key_id if self.scene.target and phase is Phase.VERIFYING else None
        return replace(status.pending, key_id=key_id, verified=False) if status.pending else None

    async def _mint(self, status: Status, pending: Pending) -> Status:
        source = await self._source()
        await self.tools.fences.check(self.scene.identity.namespace)
        secret = self.scene.secret or await self._create()
        await source.clear(pending.key_name)
        key = await source.make(pending.key_name)
        self._count("mint")
        announced = not self.scene.spec.kind.presented
        await self.tools.cluster.replace(staged(secret, key.value, key.id, pending.revision, announced=announced))
        return status.enter(Phase.VERIFYING, self.now, pending=replace(pending, key_id=key.id))

    async def _verify(self, status: Status, pending: Pending) -> Status:
        source, key_id = await self._source(), self._target.next_key_id or ""
        await source.verify(key_id, read_value(self._secret, "next"))
        self._count("verify")
        return replace(status, failure=None, pending=replace(pending, key_id=key_id, verified=True))

    async def _publish(self, status: Status, pending: Pending) -> Status:
        await self.tools.cluster.replace(published(self._secret, self.now))
        changed = status.enter(Phase.CONFIRMING, self.now, revision=pending.revision, key_time=self.now)
        return self._published(
            replace(changed, key_id=self._target.next_key_id, previous_key_id=self._target.key_id, last_rotation=self.now)
        )

    def _published(self, status: Status) -> Status:
        since = status.key_time or self.now
        return replace(status, discards=0, confirmed=None, last_rotation=since, next_rotation=self.scene.due_after(since))

    async def _discard(self, status: Status, pending: Pending) -> Status:
        source, failure = await self._source(), status.failure
        await self.tools.fences.check(self.scene.identity.namespace)
        await source.clear(pending.key_name)
        await self.tools.cluster.replace(discarded(self._secret))
        count = status.discards + 1
        again = self.now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count - 1, 10))
        why = failure or Failure(1, "VerifyTimeout", "the new key did not work in time", again)
        changed = status.enter(Phase.IDLE, self.now, pending=None, discards=count, next_rotation=again)
        return replace(changed, failure=replace(why, count=count, next_attempt=again))

    async def _revoke(self, status: Status, *, hurried: bool) -> Done:
        if not (self._target.key_id or status.key_id):
            raise ProviderError("KeyIDLost", "nothing tells any more which key is in use: nothing is deleted")
        source = await self._source()
        await self.tools.fences.check(self.scene.identity.namespace)
        keep = {key_id for key_id in (self._target.key_id, self._target.next_key_id, status.key_id) if key_id}
        told = await source.revoke(keep, quiet_since=None if hurried else status.confirmed)
        self._count("revoke")
        by_hand = self._target.has_previous and self._target.previous_key_id is None
        if self._target.has_previous:
            await self.tools.cluster.replace(retired(self._secret))
        return status.enter(Phase.IDLE, self.now, pending=None, previous_key_id=None, overlap_until=None), self._told(
            told, by_hand=by_hand, hurried=hurried
        )

    def _told(self, told: str, *, by_hand: bool, hurried: bool) -> list[Note]:
        found = [Note("OldKeyRevoked", told)] if self._has_old_key else []
        if by_hand:
            found.append(
                Note("RevokeByHand", "the key before the first rotation was not made here: revoke it by hand", warning=True)
            )
        if hurried:
            pods = ", ".join(self.seen.gate.missing) or "none"
            found.append(
                Note("EmergencyRevoke", f"{told}; pods whose calls fail until they load the new key: {pods}", warning=True)
            )
        return found

    async def _source(self) -> KeySource:
        return await self.sources.open(self.scene.spec, self.scene.identity)

    async def _create(self) -> Manifest:
        """Before a key is made: where there is no right to create the Secret, no key is left without one."""
        identity = self.scene.identity
        return await self.tools.cluster.create(new_secret(identity.namespace, self.scene.spec.secret, identity.name))

    def _count(self, operation: str) -> None:
        self.tools.metrics.rotation_provider_calls.labels(operation, "ok").inc()

    @property
    def _secret(self) -> Manifest:
        if self.scene.secret is None:
            raise ProviderError("SecretLost", "the target Secret is gone")
        return self.scene.secret

    @property
    def _target(self) -> TargetSecret:
        return self.scene.target or TargetSecret()

    @property
    def _has_old_key(self) -> bool:
        return self._target.has_previous
