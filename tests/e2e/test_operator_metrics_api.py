"""The operator serves custom.metrics.k8s.io: the API server finds it, trusts it, and brings a real pod's concurrency."""

import json

import pytest

from tests.e2e.agent import kit_values, running_agent
from tests.e2e.conftest import Report
from tests.e2e.measure import streams, words_at
from tests.e2e.operator import running_operator
from tests.support.cluster import kubectl, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


async def test_the_api_server_brings_the_concurrency_of_an_agents_pods(report: Report) -> None:
    with running_agent("e2e-metrics", kit_values(replicaCount=1)) as agent:
        namespace = agent.namespace
        agent.upgrade({"networkPolicy": {"operatorNamespace": namespace.name}})
        # An adapter that the cluster has for other tests goes on being asked by their HPAs: it has the higher priority.
        with running_operator(namespace, metricsApi={"enabled": True}, checkCRDs=False):
            kubectl("wait", "--for=condition=Available", "apiservice/v1beta2.custom.metrics.k8s.io", "--timeout=120s")
            path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace.name}/pods/*/agent_concurrency"
            async with streams(agent, 3, words_at("measured", words=20, pace=1)) as open_:
                found = wait_until("three runs", lambda: items(path) == ["3"] and items(path), seconds=15)
            report(open_.line(f"metrics API of the operator: agent_concurrency {found}"))

            assert items(path) == ["0"]


def items(path: str) -> list[str]:
    """Values by pod, as an HPA gets them."""
    return [item["value"] for item in json.loads(kubectl("get", "--raw", path))["items"]]
