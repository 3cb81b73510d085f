"""An API server in memory: resource versions, uids, generations, field managers, finalizers, and faults on request.

What it does not do: schemas and CEL (the real API server judges those in tests/e2e), garbage collection by owner.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from slipway_clients.cluster import FIELD_MANAGER, Conflict, Kind, Manifest, kind_of
from slipway_clients.cluster.kinds import OWN
from slipway_clients.cluster.paths import collection_path, object_path

T = TypeVar("T")
Address = tuple[str, str | None, str]
Path = tuple[str, ...]

_SUBRESOURCE = {kind.kind for kind in OWN}
_SERVER_SIDE = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


@dataclass(frozen=True)
class Call:
    """One call: a verb of `Cluster`, and what it was about."""

    verb: str
    kind: str
    namespace: str | None
    name: str | None


@dataclass(frozen=True)
class PostedEvent:
    about: str
    type: str
    reason: str
    message: str


@dataclass
class _Fault:
    error: BaseException
    verb: str
    kind: str | None
    times: int
    after: bool

    def hits(self, call: Call, *, after: bool) -> bool:
        return self.times > 0 and self.after is after and self.verb in {call.verb, "*"} and self.kind in {call.kind, None}


@dataclass
class _Stored:
    manifest: Manifest
    owners: dict[Path, str] = field(default_factory=dict)


class FakeCluster:
    def __init__(self, objects: Iterable[Manifest] = ()) -> None:
        self.calls: list[Call] = []
        self.events: list[PostedEvent] = []
        self.watchers: list[Callable[[Call], None]] = []
        """Called after each write took effect; one that raises is a crash right after the write."""
        self.guards: list[Callable[[Call], None]] = []
        """Called before anything happens; one that raises refuses the call, as the API server's authorization does."""
        self._objects: dict[Address, _Stored] = {}
        self._faults: list[_Fault] = []
        self._version = 0
        for each in objects:
            self.put(each)

    # What a test does to the cluster.

    def put(self, manifest: Manifest, *, manager: str = "kubectl", owned: Manifest | None = None) -> Manifest:
        """Somebody else creates or overwrites the object, and owns it, or the fields in `owned`. A status not mentioned stays."""
        address = _address(manifest)
        before = self._objects.get(address)
        status = {} if before is None else {"status": before.manifest.get("status")}
        stored = self._store(address, {**{k: v for k, v in status.items() if v is not None}, **copied(manifest)}, before)
        stored.owners |= dict.fromkeys(_leaves(owned or manifest), manager)
        return copied(stored.manifest)

    def drop(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Somebody else deletes the object, finalizers or not."""
        self._objects.pop((kind.kind, namespace, name), None)

    def fail(
        self, error: BaseException, *, verb: str = "*", kind: Kind | None = None, times: int = 1, after: bool = False
    ) -> None:
        """The next `times` calls of `verb` raise `error`: before anything happens, or `after` the write took effect."""
        self._faults.append(_Fault(error, verb, kind.kind if kind else None, times, after))

    def find(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """What is stored, without a call."""
        stored = self._objects.get((kind.kind, namespace, name))
        return None if stored is None else copied(stored.manifest)

    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.verb not in {"get", "list"}]

    # slipway_clients.cluster.Cluster

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        object_path(kind, namespace, name)
        self._begin(Call("get", kind.kind, namespace, name))
        return self.find(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        collection_path(kind, namespace)
        self._begin(Call("list", kind.kind, namespace, None))
        return [
            copied(stored.manifest)
            for (found, where, _), stored in sorted(self._objects.items(), key=lambda each: str(each[0]))
            if found == kind.kind and namespace in {None, where} and _selects(labels, stored.manifest)
        ]

    async def versions(self, kind: Kind, namespace: str | None = None) -> dict[tuple[str, str], str]:
        heads = [each["metadata"] for each in await self.list(kind, namespace)]
        return {(head["namespace"], head["name"]): head["resourceVersion"] for head in heads}

    async def apply(self, manifest: Manifest, *, force: bool = False) -> Manifest:
        call = self._begin_about("apply", manifest)
        address = _address(manifest)
        stored = self._objects.get(address) or _Stored({})
        wanted = _leaves(manifest)
        self._refuse_foreign_fields(stored, wanted, force=force)
        merged = copied(stored.manifest)
        for path in [path for path, owner in stored.owners.items() if owner == FIELD_MANAGER and path not in wanted]:
            _remove(merged, path)
            del stored.owners[path]
        for path, value in wanted.items():
            _set(merged, path, copied(value))
            stored.owners[path] = FIELD_MANAGER
        if merged == stored.manifest:
            return self._end(call, stored)
        after = self._store(address, merged, self._objects.get(address), owners=stored.owners)
        return self._end(call, after)

    async def create(self, manifest: Manifest) -> Manifest:
        call = self._begin_about("create", manifest)
        address = _address(manifest)
        if address in self._objects:
            raise Conflict(f"{address[0]} {address[2]!r} already exists")
        after = self._store(address, copied(manifest), None, owners=dict.fromkeys(_leaves(manifest), FIELD_MANAGER))
        return self._end(call, after)

    async def replace(self, manifest: Manifest) -> Manifest:
        call = self._begin_about("replace", manifest)
        before = self._current(manifest)
        wanted = copied(manifest)
        if before.manifest["kind"] in _SUBRESOURCE:
            wanted.pop("status", None)
            if "status" in before.manifest:
                wanted["status"] = before.manifest["status"]
        after = self._store(_address(manifest), wanted, before)
        if after.manifest["metadata"].get("deletionTimestamp") and not after.manifest["metadata"].get("finalizers"):
            del self._objects[_address(manifest)]
        return self._end(call, after)

    async def replace_status(self, manifest: Manifest) -> Manifest:
        call = self._begin_about("replace_status", manifest)
        before = self._current(manifest)
        wanted = {**copied(before.manifest), "status": copied(manifest.get("status", {}))}
        return self._end(call, self._store(_address(manifest), wanted, before))

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> bool:
        object_path(kind, namespace, name)
        call = Call("delete", kind.kind, namespace, name)
        self._begin(call)
        stored = self._objects.get((kind.kind, namespace, name))
        if stored is None:
            return False
        if uid not in {None, stored.manifest["metadata"]["uid"]}:
            raise Conflict(f"the uid of {name!r} is another one")
        if stored.manifest["metadata"].get("finalizers"):
            stored.manifest["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
        else:
            del self._objects[(kind.kind, namespace, name)]
        self._end(call, stored)
        return True

    async def event(self, about: Manifest, *, type: str, reason: str, message: str) -> None:  # noqa: A002  # the protocol's
        self.events.append(PostedEvent(f"{about['kind']}/{about['metadata']['name']}", type, reason, message))

    # Inside.

    def _begin_about(self, verb: str, manifest: Manifest) -> Call:
        metadata, kind = manifest["metadata"], kind_of(manifest)
        object_path(kind, metadata.get("namespace"), metadata["name"])
        call = Call(verb, kind.kind, metadata.get("namespace"), metadata["name"])
        self._begin(call)
        return call

    def _begin(self, call: Call) -> None:
        self.calls.append(call)
        for guard in self.guards:
            guard(call)
        self._raise_fault(call, after=False)

    def _end(self, call: Call, stored: _Stored) -> Manifest:
        for watcher in self.watchers:
            watcher(call)
        self._raise_fault(call, after=True)
        return copied(stored.manifest)

    def _raise_fault(self, call: Call, *, after: bool) -> None:
        for fault in self._faults:
            if fault.hits(call, after=after):
                fault.times -= 1
                raise fault.error

    def _current(self, manifest: Manifest) -> _Stored:
        stored = self._objects.get(_address(manifest))
        if stored is None:
            raise Conflict(f"{manifest['kind']} {manifest['metadata']['name']!r} is gone")
        sent = manifest["metadata"].get("resourceVersion")
        if sent != stored.manifest["metadata"]["resourceVersion"]:
            raise Conflict(f"{manifest['kind']} {manifest['metadata']['name']!r}: the object has been modified")
        return stored

    def _refuse_foreign_fields(self, stored: _Stored, wanted: dict[Path, Any], *, force: bool) -> None:
        for path, value in wanted.items():
            owner = stored.owners.get(path, FIELD_MANAGER)
            if owner != FIELD_MANAGER and not force and path not in _SERVER_SIDE and _at(stored.manifest, path) != value:
                raise Conflict(f'Apply failed with 1 conflict: conflict with "{owner}": .{".".join(path)}')

    def _store(
        self, address: Address, manifest: Manifest, before: _Stored | None, *, owners: dict[Path, str] | None = None
    ) -> _Stored:
        self._version += 1
        old = before.manifest if before else {}
        metadata = manifest.setdefault("metadata", {})
        metadata["uid"] = old.get("metadata", {}).get("uid", f"uid-{self._version}")
        metadata["resourceVersion"] = str(self._version)
        generation = old.get("metadata", {}).get("generation", 0)
        metadata["generation"] = generation + (1 if old.get("spec") != manifest.get("spec") or not generation else 0)
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        for kept in ("deletionTimestamp",):
            if kept in old.get("metadata", {}):
                metadata[kept] = old["metadata"][kept]
        held = owners if owners is not None else (before.owners if before else {})
        stored = self._objects[address] = _Stored(manifest, held)
        return stored


def copied(value: T) -> T:
    """A tenth of the time of copy.deepcopy, which was half of the rotation tests."""
    copy: T = pickle.loads(pickle.dumps(value))
    return copy


def _address(manifest: Manifest) -> Address:
    metadata = manifest["metadata"]
    return kind_of(manifest).kind, metadata.get("namespace"), metadata["name"]


def _leaves(manifest: Manifest) -> dict[Path, Any]:
    """Maps are merged key by key, a list is one value: as for custom resources without list types."""

    def walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from walk(inner, (*path, key))
        else:
            yield path, value

    ignored = {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"}
    return {path: value for path, value in walk(manifest, ()) if not (path[0] == "metadata" and path[1:2] and path[1] in ignored)}


def _at(manifest: Manifest, path: Path) -> Any:
    value: Any = manifest
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _set(manifest: Manifest, path: Path, value: Any) -> None:
    for step in path[:-1]:
        manifest = manifest.setdefault(step, {})
    manifest[path[-1]] = value


def _remove(manifest: Manifest, path: Path) -> None:
    for step in path[:-1]:
        manifest = manifest.get(step, {})
    manifest.pop(path[-1], None)


def _selects(labels: str | None, manifest: Manifest) -> bool:
    """Equality selectors only: `a=b,c=d`, and `a` for a label that is there."""
    have = manifest["metadata"].get("labels") or {}
    for term in filter(None, (labels or "").split(",")):
        key, equals, value = term.partition("=")
        if key not in have or (equals and have[key] != value.lstrip("=")):
            return False
    return True
