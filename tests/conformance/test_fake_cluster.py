"""The cluster in memory does what a real one does; tests/e2e/test_operator_cluster.py asks the real one the same."""

import pytest

from slipway_clients.cluster import Manifest, Unavailable
from slipway_clients.cluster.kinds import CONFIG_MAP
from tests.clients.cluster.contract import CONTRACT, Check, config_map
from tests.support.fake_cluster import FakeCluster


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_the_cluster_in_memory_keeps_the_contract(check: Check) -> None:
    cluster = FakeCluster()

    async def meddle(manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        found = cluster.find(CONFIG_MAP, "team", name) or manifest
        cluster.put({**found, "data": {**found["data"], **manifest["data"]}}, manager="somebody-else", owned=manifest)

    await check(cluster, "team", meddle)


async def test_a_fault_comes_as_often_as_asked_before_or_after_the_write() -> None:
    cluster = FakeCluster()
    cluster.fail(Unavailable("refused"), verb="create", kind=CONFIG_MAP)
    cluster.fail(Unavailable("timed out"), verb="replace", after=True)

    with pytest.raises(Unavailable, match="refused"):
        await cluster.create(config_map("team", "a", x="1"))
    assert cluster.find(CONFIG_MAP, "team", "a") is None
    made = await cluster.create(config_map("team", "a", x="1"))
    with pytest.raises(Unavailable, match="timed out"):
        await cluster.replace({**made, "data": {"x": "2"}})
    after = cluster.find(CONFIG_MAP, "team", "a")

    assert after is not None
    assert after["data"] == {"x": "2"}
