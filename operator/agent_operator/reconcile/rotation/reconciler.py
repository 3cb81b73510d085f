"""Does what the machine decides, one effect at a time, and writes the status after each. Every effect may be repeated."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from agent_operator.leases import NotHolder
from agent_operator.manifests.rotation_spec import KeyKind, KeyRotationSpec
from agent_operator.manifests.specs import read_spec
from agent_operator.providers import ProviderError
from agent_operator.reconcile.rotation.consumers import Gate, PodClient, ask, at_least, gate
from agent_operator.reconcile.rotation.due import check_schedule, due_after, planned
from agent_operator.reconcile.rotation.finalizer import FINALIZER, Finalizer
from agent_operator.reconcile.rotation.machine import Action, Effect, step
from agent_operator.reconcile.rotation.report import Announcement, announcements, set_metrics, with_conditions
from agent_operator.reconcile.rotation.secret import discarded, new_secret, published, read_secret, read_value, retired, staged
from agent_operator.reconcile.rotation.situation import Identity, Requests, Situation
from agent_operator.reconcile.rotation.sources import KeySource, Sources
from agent_operator.reconcile.rotation.status import (
    FENCED_BACKOFF,
    REFUSED_BACKOFF,
    Failure,
    Pending,
    Phase,
    RotationStatus,
    dump_status,
    read_status,
)
from agent_operator.reconcile.tools import Key, Tools, refuse, write_status
from slipway_clients.cluster import Conflict, Manifest
from slipway_clients.cluster.kinds import KEY_ROTATION, POD, SECRET

PASSES = 20
"""Actions in one go: a whole rotation has nine. More than that is a circle, and the queue slows it down."""

AGAIN = 0.0

FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
"""After a new key that did not work. Each attempt makes a key, so that these pauses are longer than those of a call."""

GATED = {Phase.CONFIRMING, Phase.OVERLAPPING, Phase.REVOKING}


@dataclass(frozen=True, slots=True)
class KeyRotationReconciler:
    """`reconcile` of KeyRotation objects. Between two actions it knows nothing that is not in the status or the Secret."""

    tools: Tools
    pods: PodClient
    sources: Sources

    async def __call__(self, key: Key) -> float | None:
        """Seconds until something is due. Raises ClusterError."""
        for _ in range(PASSES):
            try:
                pause = await self._pass(key)
            except Conflict:  # somebody wrote in between: look again
                pause = AGAIN
            if pause != AGAIN:
                return pause
        return 1.0

    async def _pass(self, key: Key) -> float | None:
        manifest = await self.tools.cluster.get(KEY_ROTATION, key.namespace, key.name)
        if manifest is None:
            return None
        metadata = manifest["metadata"]
        if metadata.get("deletionTimestamp"):
            return await Finalizer(self.tools, self.sources).reconcile(manifest)
        if FINALIZER not in metadata.get("finalizers", []):
            finalizers = [*metadata.get("finalizers", []), FINALIZER]
            await self.tools.cluster.replace({**manifest, "metadata": {**metadata, "finalizers": finalizers}})
            return AGAIN
        try:
            spec = read_spec(manifest, KeyRotationSpec)
            if spec.schedule:
                check_schedule(spec.schedule, self.tools.clock.now())
        except ValueError as error:
            await refuse(self.tools, manifest, "InvalidSpec", str(error))
            return None
        return await self._turn(manifest, spec)

    async def _turn(self, manifest: Manifest, spec: KeyRotationSpec) -> float | None:
        """One action of the machine, and what it changed in the status."""
        before = read_status(manifest.get("status", {}))
        situation = await self._situation(manifest, spec, before)
        action = step(situation)
        status, told = await self._perform(action, situation)
        after = replace(situation, status=status)
        if after.emergency:
            after = replace(after, status=status.retried_soon(after.now))
        after = replace(after, status=with_conditions(after, action))
        written = await write_status(self.tools, manifest, dump_status(after.status))
        set_metrics(self.tools.metrics, after)
        for each in (*told, *announcements(before, after.status)):
            type_ = "Warning" if each.warning else "Normal"
            await self.tools.cluster.event(written, type=type_, reason=each.reason, message=each.message)
        return _pause(action, after)

    async def _situation(self, manifest: Manifest, spec: KeyRotationSpec, status: RotationStatus) -> Situation:
        identity = Identity.of(manifest)
        secret = read_secret(await self.tools.cluster.get(SECRET, identity.namespace, spec.target.secret_name), identity.name)
        requests = Requests.of(manifest["metadata"].get("annotations") or {})
        read = Situation(spec, identity, requests, status.synced(secret), self.tools.clock.now(), secret)
        known = replace(read, status=planned(read))
        return replace(known, gate=await self._gate(known))

    async def _gate(self, situation: Situation) -> Gate:
        """What the pods report, in the phases that wait for them."""
        spec, status = situation.spec, situation.status
        accepting = situation.phase is Phase.VERIFYING and not spec.kind.presented
        if not accepting and status.phase not in GATED:
            return Gate()
        pods = await self.tools.cluster.list(POD, situation.identity.namespace, spec.consumers.label_selector)
        reports = await ask(pods, self.pods, spec.consumers.ops_port, spec.kind.status_key)
        accepts = at_least(situation.pending_revision if accepting else status.revision, staged=accepting)
        if spec.kind is KeyKind.API_KEY:
            expected = await (await self.sources.open(spec, situation.identity)).expected()
            accepts = lambda reported: reported == expected  # noqa: E731  # a predicate, as the other one
        return gate(reports, accepts, spec.consumers.min_pods)

    async def _perform(self, action: Action, situation: Situation) -> tuple[RotationStatus, list[Announcement]]:
        """The status after the action, which may have failed, and what is to be told."""
        status, now = situation.status, situation.now
        if action.effect is Effect.WAIT:
            return status, []
        try:
            return await Effects(self.tools, self.sources, situation, action).perform()
        except ProviderError as error:
            self.tools.metrics.rotation_provider_calls.labels(_operation(action.effect), "error").inc()
            return status.failed(error.reason, str(error), now, pause=REFUSED_BACKOFF if error.refused else None), []
        except NotHolder as error:
            return status.failed("NotLeader", str(error), now, pause=FENCED_BACKOFF), []


@dataclass(frozen=True, slots=True)
class Effects:
    """What an action does to the provider, the Secret and the status, in one situation."""

    tools: Tools
    sources: Sources
    situation: Situation
    action: Action

    async def perform(self) -> tuple[RotationStatus, list[Announcement]]:
        """The status after the action, and what is to be told.

        Raises:
            ProviderError, NotHolder, ClusterError: the action did not happen, or its end is not known.
        """
        if self.action.effect is Effect.REVOKE:
            return await self._revoke()
        performed: Mapping[Effect, Callable[[], Awaitable[RotationStatus]]] = {
            Effect.JOURNAL: self._journal,
            Effect.MINT: self._mint,
            Effect.VERIFY: self._verify,
            Effect.PUBLISH: self._publish,
            Effect.DISCARD: self._discard,
            Effect.ENTER: self._enter,
        }
        return await performed[self.action.effect](), []

    async def _journal(self) -> RotationStatus:
        situation, now = self.situation, self.situation.now
        revision = max(situation.status.revision, situation.published) + 1
        pending = Pending(revision, situation.identity.key_name(revision), now, self.action.reason)
        return self._entered(pending=pending, rotate_now=situation.requests.rotate_now, overlap_until=None)

    async def _enter(self) -> RotationStatus:
        situation, status, pending = self.situation, self.situation.status, self.situation.status.pending
        match self.action.phase:
            case Phase.IDLE:
                spent = pending.revision if pending and pending.verified else 0
                return self._entered(pending=None, overlap_until=None, revision=max(status.revision, spent))
            case (Phase.MINTING | Phase.VERIFYING) as phase if pending:
                key_id = situation.secret.next_key_id if situation.secret and phase is Phase.VERIFYING else None
                return self._entered(pending=replace(pending, key_id=key_id, verified=False))
            case Phase.CONFIRMING:
                return self._published(self._entered())
            case Phase.OVERLAPPING:
                wait = situation.spec.overlap if situation.has_old_key else timedelta()
                return self._entered(confirmed=situation.now, overlap_until=situation.now + wait)
        return self._entered()

    async def _mint(self) -> RotationStatus:
        situation, pending = self.situation, self._pending
        source = await self._source()
        secret = situation.secret.manifest if situation.secret else await self._create()
        await source.clear(pending.key_name)
        key = await source.make(pending.key_name)
        self._count("mint")
        announced = not situation.spec.kind.presented
        await self.tools.cluster.replace(staged(secret, key.value, key.id, pending.revision, announced=announced))
        return self._entered(pending=replace(pending, key_id=key.id))

    async def _verify(self) -> RotationStatus:
        source, key_id = await self._source(), (self.situation.secret and self.situation.secret.next_key_id) or ""
        await source.verify(key_id, read_value(self._secret, "next"))
        self._count("verify")
        return replace(self.situation.status, failure=None, pending=replace(self._pending, key_id=key_id, verified=True))

    async def _publish(self) -> RotationStatus:
        secret, now = self.situation.secret, self.situation.now
        await self.tools.cluster.replace(published(self._secret, now))
        return self._published(
            self._entered(
                revision=self._pending.revision,
                key_time=now,
                key_id=secret.next_key_id if secret else None,
                previous_key_id=secret.key_id if secret else None,
            )
        )

    def _published(self, status: RotationStatus) -> RotationStatus:
        since = status.key_time or self.situation.now
        due = due_after(self.situation, since)
        return replace(status, discards=0, confirmed=None, last_rotation=since, next_rotation=due)

    async def _discard(self) -> RotationStatus:
        status, now = self.situation.status, self.situation.now
        source = await self._source()
        await source.clear(self._pending.key_name)
        await self.tools.cluster.replace(discarded(self._secret))
        count = status.discards + 1
        again = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count - 1, 10))
        why = status.failure or Failure(1, "VerifyTimeout", "the new key did not work in time", again)
        changed = self._entered(pending=None, discards=count, next_rotation=again)
        return replace(changed, failure=replace(why, count=count, next_attempt=again))

    async def _revoke(self) -> tuple[RotationStatus, list[Announcement]]:
        situation, status, secret = self.situation, self.situation.status, self.situation.secret
        current, staged_id = (secret.key_id, secret.next_key_id) if secret else (None, None)
        if not (current or status.key_id):
            raise ProviderError("KeyIDLost", "nothing tells any more which key is in use: nothing is deleted")
        source = await self._source()
        keep = {key_id for key_id in (current, staged_id, status.key_id) if key_id}
        done = await source.revoke(keep, quiet_since=None if self.action.hurried else status.confirmed)
        self._count("revoke")
        if situation.has_old_key:
            await self.tools.cluster.replace(retired(self._secret))
        return self._entered(pending=None, previous_key_id=None, overlap_until=None), self._revoked(done)

    def _revoked(self, done: str) -> list[Announcement]:
        found, secret = [], self.situation.secret
        if secret and secret.has_previous:
            found.append(Announcement("OldKeyRevoked", done))
            if secret.previous_key_id is None:
                text = "the key before the first rotation was not made here: revoke it by hand"
                found.append(Announcement("RevokeByHand", text, warning=True))
        if self.action.hurried:
            pods = ", ".join(self.situation.gate.missing) or "none"
            text = f"{done}; pods whose calls fail until they load the new key: {pods}"
            found.append(Announcement("EmergencyRevoke", text, warning=True))
        return found

    def _entered(self, **changes: object) -> RotationStatus:
        phase = self.action.phase or self.situation.status.phase
        return self.situation.status.enter(phase, self.situation.now, **changes)

    async def _source(self) -> KeySource:
        return await self.sources.open(self.situation.spec, self.situation.identity)

    async def _create(self) -> Manifest:
        """Before a key is made: where there is no right to create the Secret, no key is left without one."""
        identity, name = self.situation.identity, self.situation.spec.target.secret_name
        await self.tools.fences.check(identity.namespace)
        return await self.tools.cluster.create(new_secret(identity.namespace, name, identity.name))

    def _count(self, operation: str) -> None:
        self.tools.metrics.rotation_provider_calls.labels(operation, "ok").inc()

    @property
    def _pending(self) -> Pending:
        pending = self.situation.status.pending
        assert pending is not None  # noqa: S101  # the machine asks for this effect with a pending key only
        return pending

    @property
    def _secret(self) -> Manifest:
        if self.situation.secret is None:
            raise ProviderError("SecretLost", "the target Secret is gone")
        return self.situation.secret.manifest


def _pause(action: Action, after: Situation) -> float | None:
    """Seconds until the next action: at once, or when a failed one is tried again, or a wait ends; None to wait for an event."""
    failure = after.status.failure
    if action.effect is not Effect.WAIT:
        return AGAIN if failure is None else max(0.1, (failure.next_attempt - after.now).total_seconds())
    return None if action.until is None else max(0.1, (action.until - after.now).total_seconds())


def _operation(effect: Effect) -> str:
    """The metric's label for a call that failed."""
    return {Effect.MINT: "mint", Effect.VERIFY: "verify"}.get(effect, "revoke")
