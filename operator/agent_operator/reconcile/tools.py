"""What every reconcile may use, made once by `startup`."""

from dataclasses import dataclass

import httpx

from agent_operator.clock import Clock
from agent_operator.cluster import Cluster
from agent_operator.cluster.fences import Fences
from agent_operator.metrics import Metrics
from agent_operator.settings import OperatorSettings


@dataclass(frozen=True)
class Tools:
    cluster: Cluster
    clock: Clock
    fences: Fences
    metrics: Metrics
    http: httpx.AsyncClient
    """For Prometheus, the pods' ops ports and the providers of keys, by `egress.read` alone: it bounds what comes back."""

    settings: OperatorSettings
