"""The end of a KeyRotation: what it leaves behind is either in use, or revoked. Bounded: it never holds a namespace up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from agent_operator.leases import NotHolder
from agent_operator.manifests.conditions import Condition, ConditionedStatus, Verdict, find_condition, set_conditions
from agent_operator.manifests.rotation_spec import KeyRotationSpec
from agent_operator.manifests.specs import read_spec
from agent_operator.providers import ProviderError
from agent_operator.reconcile.rotation.secret import TargetSecret, discarded, emptied, made_here, read_secret
from agent_operator.reconcile.rotation.situation import Identity
from agent_operator.reconcile.rotation.sources import KeySource, Sources
from agent_operator.reconcile.rotation.status import Failure, RotationStatus, dump_failure, read_status
from agent_operator.reconcile.tools import Key, Tools, write_status
from slipway_clients.clock import parse_timestamp, timestamp
from slipway_clients.cluster import Cluster, ClusterError, Conflict, Forbidden, Invalid, Manifest
from slipway_clients.cluster.kinds import SECRET
from slipway_clients.egress.text import plain

FINALIZER = "slipway.dev/keyrotation"

LIMIT, ATTEMPTS = timedelta(minutes=5), 5
"""Since the first failure, and failures: after both the object goes, with an Event that lists the keys which may be left at the
provider. Time alone would count while no operator runs."""

CLEANED_UP = "CleanedUp"
"""Condition, False from the first failure on: its time and `failure.count` are what an operator that comes later goes by."""

FAILED_SINCE = "slipway.dev/clean-up-failed-since"
"""Annotation, the time of the first failure: in place of the condition, where the status cannot be written."""

RETRY = 10.0
"""Seconds between two attempts to clean up."""

FAILURES = (ProviderError, NotHolder, ClusterError, ValueError, LookupError, TypeError, AttributeError)
"""The last three: an answer, a spec or a status of another shape than expected. They must not hold a namespace either."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finalizer:
    """Cleans up what a KeyRotation that is being deleted has made, and lets it go."""

    tools: Tools
    sources: Sources

    async def reconcile(self, manifest: Manifest) -> float | None:
        """Seconds until the next attempt; None when the object may go. Raises ClusterError."""
        metadata = manifest["metadata"]
        if FINALIZER not in metadata.get("finalizers", []):
            return None
        try:
            await self._clean(manifest)
        except Conflict:
            raise
        except FAILURES as error:
            if isinstance(error, NotHolder) and error.__cause__ is None:
                return RETRY  # another operator is at it, or was killed and holds the Lease for half a minute more
            log.warning("keyrotation_not_cleaned_up", **_key(manifest), error=str(error))
            manifest, enough = await self._failed(manifest, error)
            if not enough:
                return RETRY
            await self._give_up(manifest, error)
        metadata = manifest["metadata"]
        finalizers = [each for each in metadata["finalizers"] if each != FINALIZER]
        await self.tools.cluster.replace({**manifest, "metadata": {**metadata, "finalizers": finalizers}})
        return None

    async def _failed(self, manifest: Manifest, error: Exception) -> tuple[Manifest, bool]:
        """Notes a failure in the status: the object as it is now, and whether it was tried often and long enough."""
        now, metadata, status = self.tools.clock.now(), manifest["metadata"], manifest.get("status", {})
        reason = error.reason if isinstance(error, ProviderError) else type(error).__name__
        begun = find_condition(status.get("conditions", []), CLEANED_UP)
        count = (status.get("failure") or {}).get("count", 0) + 1 if begun else 1
        failure = Failure(count, reason, plain(error, 500), now + timedelta(seconds=RETRY))
        verdict, generation = Verdict(CLEANED_UP, "False", reason, str(error)), metadata.get("generation", 1)
        conditions = set_conditions(status.get("conditions", []), [verdict], generation=generation, now=now)
        try:
            noted: ConditionedStatus = status | {"conditions": conditions, "failure": dump_failure(failure)}
            manifest = await write_status(self.tools, manifest, noted)
        except (Forbidden, Invalid):  # a status that the API does not take back must not hold the namespace
            return await self._noted_beside(manifest, now)
        return manifest, count >= ATTEMPTS and begun is not None and _long_since(begun, now)

    async def _noted_beside(self, manifest: Manifest, now: datetime) -> tuple[Manifest, bool]:
        """The first failure as an annotation, where the status takes nothing: a deletion may have waited for an operator."""
        metadata = manifest["metadata"]
        notes = metadata.get("annotations") or {}
        try:
            return manifest, now - parse_timestamp(notes.get(FAILED_SINCE, "")) >= LIMIT
        except ValueError:
            noted = {**metadata, "annotations": {**notes, FAILED_SINCE: timestamp(now)}}
            return await self.tools.cluster.replace({**manifest, "metadata": noted}), False

    async def _clean(self, manifest: Manifest) -> None:
        status = read_status(manifest.get("status", {}))
        if status.revision == 0 and status.pending is None:
            return  # nothing was ever made, whatever the spec says
        spec, identity = read_spec(manifest, KeyRotationSpec), Identity.of(manifest)
        # First: who does not hold the Lease must not be the one that fails and gives up.
        await self.tools.fences.check(identity.namespace)
        source = await self.sources.open(spec, identity)
        if spec.deletion_policy == "Revoke":
            await source.revoke(set(), quiet_since=None)
            await self._delete_secret(spec, identity)
            return
        await self._tidy(spec, identity, source, status)
        await self._post(manifest, "KeysLeftValid", f"no longer looked after, and valid: {_left(status)}")

    async def _delete_secret(self, spec: KeyRotationSpec, identity: Identity) -> None:
        cluster: Cluster = self.tools.cluster
        secret = await cluster.get(SECRET, identity.namespace, spec.target.secret_name)
        found = read_secret(secret, identity.name)
        if not secret or not found or found.foreign:
            return
        if made_here(secret):
            await cluster.delete(SECRET, identity.namespace, spec.target.secret_name, uid=secret["metadata"]["uid"])
        else:
            await cluster.replace(emptied(secret))  # somebody else's object, and no right to delete it is needed

    async def _tidy(self, spec: KeyRotationSpec, identity: Identity, source: KeySource, status: RotationStatus) -> None:
        """Takes a staged key away. The one before the current stays valid: pods may be using it still."""
        secret = await self.tools.cluster.get(SECRET, identity.namespace, spec.target.secret_name)
        found = read_secret(secret, identity.name) or TargetSecret()
        pending = status.pending
        if pending and found.revision < pending.revision and (not pending.verified or found.next_key_id):
            await source.clear(pending.key_name)  # never published: nobody uses it
        if secret and found.next_key_id:
            await self.tools.cluster.replace(discarded(secret))

    async def _give_up(self, manifest: Manifest, error: Exception) -> None:
        try:
            left = _left(read_status(manifest.get("status", {})))
        except (LookupError, TypeError, ValueError, AttributeError):
            left = "those of the project's list whose names begin with this object's"
        log.error("keyrotation_gave_up", **_key(manifest), keys=left)
        await self._post(manifest, "CleanUpGaveUp", f"gave up cleaning up ({error}); these keys may be valid still: {left}")

    async def _post(self, manifest: Manifest, reason: str, message: str) -> None:
        await self.tools.cluster.event(manifest, type="Warning", reason=reason, message=message)


def _long_since(begun: Condition, now: datetime) -> bool:
    return now - parse_timestamp(begun["lastTransitionTime"]) >= LIMIT


def _key(manifest: Manifest) -> dict[str, str]:
    metadata = manifest["metadata"]
    return Key(manifest["kind"], metadata["namespace"], metadata["name"])._asdict()


def _left(status: RotationStatus) -> str:
    staged = status.pending.key_id if status.pending and _unpublished(status) else None
    return ", ".join(each for each in (status.key_id, status.previous_key_id, staged) if each) or "none known"


def _unpublished(status: RotationStatus) -> bool:
    return status.pending is not None and status.pending.revision > status.revision
