"""The operator serves custom.metrics.k8s.io: the API server finds it and trusts it, and a real HPA scales by it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.agent import kit_values, running_agent
from tests.e2e.measure import eventually, streams, words_at
from tests.e2e.operator import running_operator
from tests.support.cluster import kubectl
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

GROUP = "custom.metrics.k8s.io"

SCALED_SECONDS = 90
"""The HPA looks each 15 s, and forgets as often which versions of the API there are."""


@contextmanager
def without_adapter() -> Iterator[None]:
    """There is one server of this API in a cluster: takes the registration of the one that other tests use away meanwhile."""
    names = [name for name in kubectl("get", "apiservices", "--output=name").split() if name.endswith(f".{GROUP}")]
    kept = [bare(json.loads(kubectl("get", name, "--output=json"))) for name in names]
    if names:
        kubectl("delete", *names)
    try:
        yield
    finally:
        for each in kept:
            kubectl("apply", "--filename=-", stdin=json.dumps(each))


def bare(found: dict[str, Any]) -> dict[str, Any]:
    """The object as somebody wrote it."""
    metadata = {key: found["metadata"][key] for key in ("name", "labels", "annotations") if key in found["metadata"]}
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": metadata, "spec": found["spec"]}


async def test_an_hpa_scales_by_the_operator_without_an_adapter(report: Report) -> None:
    scaling = {"enabled": True, "mode": "pods-metric", "minReplicas": 1, "maxReplicas": 2, "targetConcurrency": 2}
    with without_adapter(), running_agent("e2e-metrics", kit_values(autoscaling=scaling)) as agent:
        namespace = agent.namespace
        agent.upgrade({"networkPolicy": {"operatorNamespace": namespace.name}})
        with running_operator(namespace, metricsApi={"enabled": True}, checkCRDs=False) as operator:
            kubectl("wait", "--for=condition=Available", f"apiservice/v1beta2.{GROUP}", "--timeout=120s")
            path = f"/apis/{GROUP}/v1beta2/namespaces/{namespace.name}/pods/*/agent_concurrency"
            async with streams(agent, 4, words_at("measured", words=100, pace=1)) as open_:
                await eventually(lambda: sum(items(path)) == 4, 30)
                await eventually(lambda: len(agent.serving()) == 2, SCALED_SECONDS)
            report(open_.line("metrics API of the operator: an HPA has made a second pod"))
            open_.check()
            operator.uninstall()


def items(path: str) -> list[int]:
    """Values of the pods, as an HPA gets them."""
    return [int(item["value"]) for item in json.loads(kubectl("get", "--raw", path))["items"]]
