"""Settings of the operator: one frozen object per process, read from environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

DOMAIN = "slipway.dev"
"""Of our API group, annotations and finalizer. Fixed before the first release: changing it handles every object anew."""

FINALIZER = f"{DOMAIN}/finalizer"

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class OperatorSettings:
    namespaces: tuple[str, ...] = ()
    """The namespaces whose objects it attends to; empty for all of the cluster."""

    pod_namespace: str = "default"
    """Where the operator runs: its Lease and the Secrets with administrators' keys are there."""

    pod_name: str = "slipway-operator"
    """Holder of the Lease: the pod's name, as no two pods alive share one."""

    lease_name: str = "slipway-operator"

    prometheus_url: str = ""
    """For objects that name none; without any, conditions that need Prometheus say Unknown."""

    resync_seconds: float = 60.0
    """Between two looks at all objects, which find what a deaf watch missed. A list of our own kinds, so it costs little."""

    workers: int = 4
    """Objects attended to at a time. They wait for HTTP answers most of the time, so one slow one delays few."""

    probe_port: int = 8080
    metrics_port: int = 9090
    log_level: str = "info"
    standalone: bool = True
    """One replica with strategy Recreate needs no peering; false makes operators of one cluster agree by `peering_name`."""

    peering_name: str = "slipway-operator"
    """Not kopf's `default`, which every operator in the cluster joins, and any of them can then pause ours."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables of docs/operations/operator.md.

        Raises:
            ValueError: one line that names the variable and what was expected.
        """
        return cls(
            namespaces=tuple(each.strip() for each in environ.get("WATCH_NAMESPACES", "").split(",") if each.strip()),
            pod_namespace=environ.get("POD_NAMESPACE") or cls.pod_namespace,
            pod_name=environ.get("POD_NAME") or cls.pod_name,
            lease_name=environ.get("LEASE_NAME") or cls.lease_name,
            prometheus_url=environ.get("PROMETHEUS_URL") or cls.prometheus_url,
            resync_seconds=_number(environ, "RESYNC_SECONDS", cls.resync_seconds, lowest=1, highest=3600),
            workers=int(_number(environ, "WORKERS", cls.workers, lowest=1, highest=64)),
            probe_port=int(_number(environ, "PROBE_PORT", cls.probe_port, lowest=1, highest=65535)),
            metrics_port=int(_number(environ, "METRICS_PORT", cls.metrics_port, lowest=0, highest=65535)),
            log_level=_choice(environ, "LOG_LEVEL", cls.log_level, LOG_LEVELS),
            standalone=_choice(environ, "OPERATOR_STANDALONE", "true", ("true", "false")) == "true",
            peering_name=environ.get("OPERATOR_PEERING_NAME") or cls.peering_name,
        )


def _choice(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name, "").lower() or default
    if value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {environ[name]!r}")
    return value


def _number(environ: Mapping[str, str], name: str, default: float, *, lowest: float, highest: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: expected a number from {lowest:g} to {highest:g}, got {text!r}")
    return value
