"""Every rendered object is what the API of several Kubernetes minors takes; unknown fields are errors."""

import pytest
import yaml

from tests.charts.slipway import CASES, CHART, PLATFORMS, manifests
from tests.support.charts import MINORS, check_with_api, different

CRD_GROUPS = {
    "monitoring.coreos.com",
    "keda.sh",
    "gateway.networking.k8s.io",
    "slipway.dev",
    "cilium.io",
    "external-secrets.io",
    "postgresql.cnpg.io",
}
"""Their schemas are in their CRDs: tests/e2e applies ours to a cluster, and tools/custom_resources.py reads those of others."""


@pytest.mark.parametrize("minor", MINORS)
def test_the_api_takes_every_object(minor: str) -> None:
    own = different(map(manifests, (*CASES.values(), *PLATFORMS.values())), CRD_GROUPS)

    check_with_api(own, minor)
    assert {m["kind"] for m in own} >= {"Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "StatefulSet"}


def test_the_oldest_minor_of_the_chart_is_among_them() -> None:
    chart = yaml.load((CHART / "Chart.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)

    assert chart["kubeVersion"] == f">={MINORS[0]}.0-0"
