"""The cluster client at a real API server, by the contract that the double in memory keeps."""

import json
from collections.abc import Iterator

import pytest

from slipway_clients.cluster import Manifest
from slipway_clients.cluster.http_cluster import connect
from tests.conformance.test_fake_cluster import CONTRACT, Check
from tests.e2e.operator import install_crds
from tests.support.cluster import Namespace, fresh_namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    install_crds()
    with fresh_namespace("e2e-cluster") as space:
        yield space


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_the_real_cluster_keeps_the_contract(namespace: Namespace, check: Check) -> None:
    async def meddle(manifest: Manifest) -> None:
        namespace.kubectl("apply", "--server-side", "--field-manager=somebody-else", "--filename=-", stdin=json.dumps(manifest))

    async with connect() as cluster:
        await check(cluster, namespace.name, meddle)
