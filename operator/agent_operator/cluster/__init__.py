"""The only way to the Kubernetes API: a protocol, its errors, and the kinds it is used for."""

from typing import Protocol

from agent_operator.cluster.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    InvalidName,
    TooLarge,
    Unavailable,
    WrongAnswer,
)
from agent_operator.cluster.kinds import Kind, Manifest, kind_of

__all__ = [
    "Cluster",
    "ClusterError",
    "Conflict",
    "Forbidden",
    "Invalid",
    "InvalidName",
    "Kind",
    "Manifest",
    "TooLarge",
    "Unavailable",
    "WrongAnswer",
    "kind_of",
]

FIELD_MANAGER = "slipway-operator"


class Cluster(Protocol):
    """Every method but `event` raises ClusterError, and nothing else.

    InvalidName before anything is asked, for a namespace, a name or a selector that is none. WrongAnswer when what came is not
    of the kind, the namespace and the name that were asked for. TooLarge when it is more than is read into memory.
    """

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """None when there is no such object, or no such kind in this cluster."""

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        """Of all namespaces without one. `labels` is a label selector that the API server applies."""

    async def versions(self, kind: Kind, namespace: str | None = None) -> dict[tuple[str, str], str]:
        """`metadata.resourceVersion` by namespace and name: of more objects than `list` would hold."""

    async def apply(self, manifest: Manifest, *, force: bool = False) -> Manifest:
        """Server-side apply. Conflict names the manager that owns a field, unless forced."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Conflict when it exists."""

    async def replace(self, manifest: Manifest) -> Manifest:
        """Conflict when `metadata.resourceVersion` is not the newest."""

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> bool:
        """False when there was nothing to delete. With `uid`, Conflict when another object has the name by now."""

    async def replace_status(self, manifest: Manifest) -> Manifest:
        """Writes `status` alone. Conflict when `metadata.resourceVersion` is not the newest."""

    async def event(self, about: Manifest, *, type: str, reason: str, message: str) -> None:  # noqa: A002  # the API's name of it
        """Posts an Event on an object, `type` Normal or Warning. Never raises: an Event is a courtesy."""
