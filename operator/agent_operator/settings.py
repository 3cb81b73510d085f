"""Settings of the operator: one frozen object per process, read from environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

DOMAIN = "slipway.dev"
"""Of our API group, annotations and finalizer. Fixed before the first release: changing it handles every object anew."""

FINALIZER = f"{DOMAIN}/finalizer"


@dataclass(frozen=True)
class OperatorSettings:
    standalone: bool = True
    """One replica with strategy Recreate needs no peering; false makes operators of one cluster agree by `peering_name`."""

    peering_name: str = "slipway-operator"
    """Not kopf's `default`, which every operator in the cluster joins, and any of them can then pause ours."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Reads OPERATOR_STANDALONE and OPERATOR_PEERING_NAME.

        Raises:
            ValueError: one line that names the variable and what was expected.
        """
        return cls(
            standalone=_flag(environ, "OPERATOR_STANDALONE", default=cls.standalone),
            peering_name=environ.get("OPERATOR_PEERING_NAME") or cls.peering_name,
        )


def _flag(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    match environ.get(name, "").lower():
        case "":
            return default
        case "true":
            return True
        case "false":
            return False
    raise ValueError(f"{name}: expected true or false, got {environ[name]!r}")
