"""What the scenarios share: an agent with the test graph."""

from collections.abc import Iterator

import pytest

from tests.e2e.agent import Agent, kit_values, running_agent
from tests.support.cluster import has_api

REPLICAS = 3

INGRESS_HOST, ROUTE_HOST = "ingress.slipway.test", "route.slipway.test"


@pytest.fixture(scope="session")
def agent() -> Iterator[Agent]:
    """Three replicas with the test graph, everything of the chart on that this cluster can take. Scenarios leave it well."""
    values = kit_values(
        replicaCount=REPLICAS,
        streaming={"maxTurnSeconds": 300},
        limits={"ratePerMinute": 0, "runsPerCaller": 0},  # all scenarios are one caller
        monitoring={
            "serviceMonitor": {"enabled": has_api("servicemonitors.monitoring.coreos.com")},
            "alerts": {"enabled": has_api("prometheusrules.monitoring.coreos.com")},
            "dashboards": {"enabled": True},
        },
        ingress={"enabled": True, "host": INGRESS_HOST},
        httpRoute={
            "enabled": has_api("httproutes.gateway.networking.k8s.io"),
            "parentRefs": [{"name": "main", "namespace": "ingress"}],
            "hostnames": [ROUTE_HOST],
        },
    )
    with running_agent("e2e-agent", values) as found:
        yield found
