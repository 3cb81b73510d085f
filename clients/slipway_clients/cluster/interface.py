"""The protocol by which all others speak to the Kubernetes API, and what can go wrong. No client library's error passes it."""

from typing import Protocol

from slipway_clients.cluster.kinds import Kind, Manifest

FIELD_MANAGER = "slipway-operator"


class ClusterError(Exception):
    """The API server did not do what was asked; the message is for a condition or a log line."""


class Conflict(ClusterError):
    """Somebody else wrote the object in between, owns the field, or made it first."""


class Forbidden(ClusterError):
    """401 or 403: asking again soon does not help; the message names what the service account may not do."""


class Invalid(ClusterError):
    """400 or 422: the object is refused as it stands; the message names the field."""


class InvalidName(Invalid):
    """Nothing was asked: a name, a label or a port is none that the API has, and would have led somewhere else."""


class WrongAnswer(ClusterError):
    """The API server answered with another object than the one that was asked for. It is not used."""


class TooLarge(ClusterError):
    """More than is read into memory: an answer of too many bytes or values, or all pages of a list together. It is not used."""


class Unavailable(ClusterError):
    """No connection, a time-out, 429 or 5xx. The change may have been made all the same."""


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
