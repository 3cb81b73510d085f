"""What the chart renders is taken by a real API server, custom resources by their CRDs; generated secrets are kept."""

import json
from collections.abc import Iterator

import pytest

from tests.charts.slipway import CASES, manifests
from tests.e2e.agent import CHART, default_values
from tests.support.cluster import Namespace, fresh_namespace, kubectl
from tests.support.helm import Release, helm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SECRETS = ("my-agent-slipway-auth", "my-agent-slipway-postgres")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with fresh_namespace("e2e-chart") as found:
        yield found


def served() -> Iterator[tuple[str, str]]:
    """API version and kind of what this cluster has: of the add-ons, some may be absent."""
    for line in kubectl("api-resources", "--no-headers").splitlines():
        *_, version, _, kind = line.split()
        yield version, kind


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_every_object(namespace: Namespace, case: str) -> None:
    known = set(served())
    found = [m for m in manifests(CASES[case], namespace=namespace.name) if (m["apiVersion"], m["kind"]) in known]
    # A pod is refused, also in a dry run, while its service account is not there.
    namespace.apply(*(m for m in found if m["kind"] == "ServiceAccount"))
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})

    namespace.kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", stdin=everything)


def test_generated_secrets_outlive_an_upgrade_and_the_databases_a_reinstall(namespace: Namespace) -> None:
    release, values = Release(namespace, "my-agent", CHART), default_values() | {"replicaCount": 1}

    def data() -> dict[str, dict[str, str]]:
        return {name: json.loads(namespace.kubectl("get", "secret", name, "--output=json"))["data"] for name in SECRETS}

    release.upgrade(values)
    first = data()
    release.upgrade(values | {"podAnnotations": {"again": "1"}})
    assert data() == first

    helm(namespace, "uninstall", "my-agent", "--wait")
    release.upgrade(values)
    again = data()

    assert again["my-agent-slipway-postgres"] == first["my-agent-slipway-postgres"]
    assert again["my-agent-slipway-auth"] != first["my-agent-slipway-auth"]
