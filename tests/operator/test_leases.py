"""agent_operator.leases: who may do what cannot be undone."""

import pytest

from agent_operator.leases import DURATION, LEASE_NAME, Fence, NotHolder
from slipway_clients.cluster import Conflict, Unavailable
from slipway_clients.cluster.kinds import LEASE
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster


def fence(cluster: FakeCluster, clock: WallClock, holder: str) -> Fence:
    return Fence(cluster, clock, namespace="team", holder=holder)


def holder(cluster: FakeCluster) -> str:
    lease = cluster.find(LEASE, "team", LEASE_NAME)
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


async def test_the_first_takes_it_and_the_second_is_refused() -> None:
    cluster, clock = FakeCluster(), WallClock()
    first, second = fence(cluster, clock, "one"), fence(cluster, clock, "two")

    await first.check()
    with pytest.raises(NotHolder, match="another operator holds the Lease team/slipway-operator"):
        await second.check()

    assert holder(cluster) == "one"
    assert (first.held_now, second.held_now) == (True, False)


async def test_it_is_taken_over_when_nobody_renewed_it_for_its_duration() -> None:
    cluster, clock = FakeCluster(), WallClock()
    first, second = fence(cluster, clock, "one"), fence(cluster, clock, "two")
    await first.check()
    with pytest.raises(NotHolder):
        await second.check()

    clock.pass_by(DURATION)
    await second.check()

    assert holder(cluster) == "two"
    with pytest.raises(NotHolder):
        await first.check()
    lease = cluster.find(LEASE, "team", LEASE_NAME)
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_wrong_clock_takes_nothing_from_who_renews() -> None:
    cluster, clock, ahead = FakeCluster(), WallClock(), WallClock()
    first, second = fence(cluster, clock, "one"), fence(cluster, ahead, "two")
    ahead.pass_by(3600)

    for _ in range(10):
        await first.check()
        with pytest.raises(NotHolder):
            await second.check()
        clock.pass_by(10)
        ahead.pass_by(10)


async def test_while_the_api_server_is_away_nothing_may_be_done() -> None:
    cluster, clock = FakeCluster(), WallClock()
    one = fence(cluster, clock, "one")
    await one.check()
    cluster.fail(Unavailable("connection refused"), verb="replace")

    with pytest.raises(NotHolder, match="could not be renewed: connection refused"):
        await one.check()


async def test_a_write_in_between_is_a_loss() -> None:
    cluster = FakeCluster()
    one = fence(cluster, WallClock(), "one")
    await one.check()
    cluster.fail(Conflict("the object has been modified"), verb="replace")

    with pytest.raises(NotHolder):
        await one.check()
