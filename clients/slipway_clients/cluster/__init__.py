"""The only way to the Kubernetes API: a protocol, its errors, and the kinds it is used for."""

from slipway_clients.cluster.interface import (
    FIELD_MANAGER,
    Cluster,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    InvalidName,
    TooLarge,
    Unavailable,
    WrongAnswer,
)
from slipway_clients.cluster.kinds import Kind, Manifest, kind_of

__all__ = [
    "FIELD_MANAGER",
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
