"""What every reconcile may use, made once by `startup`; its key and its type; and the way a status is written."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import httpx

from agent_operator.leases import Fences
from agent_operator.manifests.conditions import ConditionedStatus, Verdict, set_conditions
from agent_operator.metrics import Metrics
from agent_operator.settings import OperatorSettings
from slipway_clients.clock import Clock
from slipway_clients.cluster import Cluster, Manifest
from slipway_clients.prometheus import Prometheus


class Key(NamedTuple):
    """Names an object of ours."""

    kind: str
    namespace: str
    name: str


Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one object in line. Seconds until the key is due again; None to wait for an event."""


@dataclass(frozen=True)
class Tools:
    """Of one process."""

    cluster: Cluster
    clock: Clock
    fences: Fences
    metrics: Metrics
    http: httpx.AsyncClient
    """For Prometheus, the pods' ops ports and the providers of keys, by `egress.read` alone: it bounds what comes back."""

    settings: OperatorSettings

    prometheus_http: httpx.AsyncClient | None = None
    """For Prometheus where it has an authority of its own, which keys of providers must not depend on; else `http`."""

    def prometheus(self, url: str) -> Prometheus:
        """The server at `url`, one of the settings. Only the default one gets the token."""
        token_file = self.settings.prometheus_token_file if url == self.settings.prometheus_url else ""
        return Prometheus(self.prometheus_http or self.http, url, token_file)


async def write_status(tools: Tools, about: Manifest, status: ConditionedStatus) -> Manifest:
    """The object with this status; `about` is the object as it was read. Raises ClusterError."""
    metadata = about["metadata"]
    tools.metrics.set_conditions(about["kind"], metadata["namespace"], metadata["name"], status.get("conditions", []))
    if about.get("status", {}) == status:
        return about
    return await tools.cluster.replace_status({**about, "status": status})


async def refuse(tools: Tools, about: Manifest, reason: str, message: str) -> None:
    """Ready=False, and nothing else of the status changed. Raises ClusterError."""
    status = about.get("status", {})
    conditions = set_conditions(
        status.get("conditions", []),
        [Verdict("Ready", "False", reason, message)],
        generation=about["metadata"]["generation"],
        now=tools.clock.now(),
    )
    await write_status(tools, about, status | {"conditions": conditions})
