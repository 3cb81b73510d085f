"""With the Prometheus operator in the cluster: every replica is a target, and its series have the agreed labels."""

import pytest

from tests.e2e.agent import Agent
from tests.e2e.conftest import REPLICAS, Report
from tests.support.cluster import prometheus_query, require_api, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SCRAPED_SECONDS = 90
"""The operator writes the configuration, Prometheus reads it again and scrapes: 15 s were measured on an idle machine."""


def test_every_replica_is_a_target_that_is_up(agent: Agent, report: Report) -> None:
    require_api("servicemonitors.monitoring.coreos.com")
    chosen = f'namespace="{agent.namespace.name}",job="{agent.release.name}"'

    def targets() -> list[str] | None:
        up = [sample["metric"]["pod"] for sample in prometheus_query(f"up{{{chosen}}}") if sample["value"][1] == "1"]
        return up if {pod.name for pod in agent.serving()} <= {*up} else None

    up = wait_until("targets up", targets, seconds=SCRAPED_SECONDS)
    report(f"ServiceMonitor: {len(up)} targets up")

    assert len(up) >= REPLICAS
    assert prometheus_query(f"agent_build_info{{{chosen}}}")
