"""Does what the machine decides, one action at a time, and writes the status after each."""

from dataclasses import dataclass, replace
from datetime import datetime

from agent_operator.cluster import Conflict, Manifest
from agent_operator.cluster.kinds import KEY_ROTATION, POD, SECRET
from agent_operator.cluster.lease import NotHolder
from agent_operator.providers import ProviderError
from agent_operator.reconcile.queue import Key
from agent_operator.reconcile.rotation.conditions import Note, judged, notes
from agent_operator.reconcile.rotation.consumers import Gate, PodClient, ask, at_least, gate
from agent_operator.reconcile.rotation.deletion import FINALIZER, Farewell
from agent_operator.reconcile.rotation.effects import Effects, Scene
from agent_operator.reconcile.rotation.machine import Action, Do, Observed, emergency, step
from agent_operator.reconcile.rotation.model import Kind, read_identity, read_spec
from agent_operator.reconcile.rotation.report import report
from agent_operator.reconcile.rotation.schedule import check
from agent_operator.reconcile.rotation.secret import read_secret
from agent_operator.reconcile.rotation.sources import Sources
from agent_operator.reconcile.rotation.status import FENCED_BACKOFF, REFUSED_BACKOFF, Phase, Status, read_status, write_status
from agent_operator.reconcile.status import refuse
from agent_operator.reconcile.status import write_status as put_status
from agent_operator.reconcile.tools import Tools

PASSES = 20
"""Actions in one go: a whole rotation has nine. More than that is a circle, and the queue slows it down."""

AGAIN = 0.0

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
            return await Farewell(self.tools, self.sources).reconcile(manifest)
        if FINALIZER not in metadata.get("finalizers", []):
            finalizers = [*metadata.get("finalizers", []), FINALIZER]
            await self.tools.cluster.replace({**manifest, "metadata": {**metadata, "finalizers": finalizers}})
            return AGAIN
        try:
            scene = await self._scene(manifest)
        except ValueError as error:
            await refuse(self.tools, manifest, "InvalidSpec", str(error))
            return None
        return await self._turn(manifest, scene)

    async def _turn(self, manifest: Manifest, scene: Scene) -> float | None:
        """One action of the machine, and what it changed in the status."""
        now = self.tools.clock.now()
        before = read_status(manifest.get("status", {}))
        status = plan(scene, before.mirror(scene.target), now)
        seen = await self._observe(scene, status)
        action = step(scene.spec, scene.identity.orders, status, seen, now)
        after, told = await self._perform(action, scene, status, seen, now)
        if emergency(scene.identity.orders, after):
            after = after.hastened(now)
        after = judged(scene.spec, scene.identity, replace(after, unconfirmed=seen.gate.missing), seen, action, now)
        written = await put_status(self.tools, manifest, write_status(after))
        report(self.tools.metrics, scene, after)
        for note in [*told, *notes(before, after)]:
            await self._post(written, note)
        return _pause(action, after, now)

    async def _scene(self, manifest: Manifest) -> Scene:
        spec, identity = read_spec(manifest), read_identity(manifest)
        if spec.schedule:
            check(spec.schedule, self.tools.clock.now())
        secret = await self.tools.cluster.get(SECRET, identity.namespace, spec.secret)
        return Scene(spec, identity, secret, read_secret(secret, identity.name))

    async def _observe(self, scene: Scene, status: Status) -> Observed:
        awaited = status.phase is Phase.VERIFYING and not scene.spec.kind.presented and status.pending is not None
        if not awaited and status.phase not in GATED:
            return Observed(scene.target)
        return Observed(scene.target, await self._gate(scene, status, staged=awaited))

    async def _gate(self, scene: Scene, status: Status, *, staged: bool) -> Gate:
        spec, consumers = scene.spec, scene.spec.consumers
        pods = await self.tools.cluster.list(POD, scene.identity.namespace, consumers.selector)
        reports = await ask(pods, self.pods, consumers.ops_port, spec.kind.status_key)
        revision = status.pending.revision if staged and status.pending else status.revision
        accepts = at_least(revision, staged=staged)
        if spec.kind is Kind.API_KEY:
            expected = await (await self.sources.open(spec, scene.identity)).expected()
            accepts = lambda reported: reported == expected  # noqa: E731  # a predicate, as the other one
        return gate(reports, accepts, consumers.min_pods)

    async def _perform(
        self, action: Action, scene: Scene, status: Status, seen: Observed, now: datetime
    ) -> tuple[Status, list[Note]]:
        if action.do is Do.WAIT:
            return status, []
        try:
            return await Effects(self.tools, self.sources, scene, seen, now).perform(action, status)
        except ProviderError as error:
            self.tools.metrics.rotation_provider_calls.labels(_operation(action.do), "error").inc()
            return status.failed(error.reason, str(error), now, pause=REFUSED_BACKOFF if error.refused else None), []
        except NotHolder as error:
            return status.failed("NotLeader", str(error), now, pause=FENCED_BACKOFF), []

    async def _post(self, about: Manifest, note: Note) -> None:
        type_ = "Warning" if note.warning else "Normal"
        await self.tools.cluster.event(about, type=type_, reason=note.reason, message=note.message)


def plan(scene: Scene, status: Status, now: datetime) -> Status:
    """When the next rotation is due, if that is not known or the spec has changed; and what is no longer asked for."""
    changed = status.generation != scene.identity.generation
    if changed:
        status = replace(status, failure=None)  # whoever changed the spec may have mended it
    if emergency(scene.identity.orders, status):
        status = status.hastened(now)
    if status.phase is not Phase.IDLE:
        return replace(status, next_rotation=scene.due_after(status.key_time)) if changed and status.key_time else status
    leaked = scene.identity.orders.leaked
    if leaked is not None and leaked > status.revision:
        status = replace(status, ignored_leak=leaked)  # a revision that there never was: else it would fire once there is
    if status.revision and not status.discards and (changed or not status.next_rotation):
        status = replace(status, next_rotation=scene.due_after(status.key_time or now))
    return replace(status, next_rotation=scene.postponed(status.next_rotation, status.key_time, now))


def _pause(action: Action, status: Status, now: datetime) -> float | None:
    if action.do is not Do.WAIT:
        return AGAIN if status.failure is None else max(0.1, (status.failure.next_attempt - now).total_seconds())
    return None if action.until is None else max(0.1, (action.until - now).total_seconds())


def _operation(do: Do) -> str:
    return {Do.MINT: "mint", Do.VERIFY: "verify"}.get(do, "revoke")
