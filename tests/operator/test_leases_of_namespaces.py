"""agent_operator.leases: two operators over one namespace, by whatever releases, exclude each other there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from agent_operator.leases import DURATION, LEASE_NAME, UNUSED, Fences, NotHolder
from agent_operator.metrics import Metrics
from agent_operator.reconcile.controller import NOT_OURS, Controller
from agent_operator.reconcile.tools import Key, Tools
from agent_operator.settings import OperatorSettings
from slipway_clients.cluster import Forbidden, Manifest, Unavailable
from slipway_clients.cluster.kinds import ALERT_POLICY, LEASE, SECRET
from tests.operator.reconcile.rotation.test_finalizer import gone
from tests.operator.reconcile.rotation.world import KEY, NAMESPACE, World
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster

POLICY: Manifest = {
    "apiVersion": ALERT_POLICY.api_version,
    "kind": ALERT_POLICY.kind,
    "metadata": {"namespace": "team", "name": "main"},
    "spec": {},
}


def holder(cluster: FakeCluster, namespace: str = "team") -> str:
    lease = cluster.find(LEASE, namespace, LEASE_NAME)
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def operators(cluster: FakeCluster, clock: WallClock) -> tuple[Fences, Fences]:
    """One for the whole cluster, in slipway-system, and one for the namespace `team`, which runs there."""
    return (
        Fences(cluster, clock, holder="slipway-system/slipway-operator-0"),
        Fences(cluster, clock, holder="team/slipway-operator-0", namespaces=["team"]),
    )


async def test_an_operator_of_all_namespaces_and_one_of_a_namespace_exclude_each_other() -> None:
    cluster, clock = FakeCluster(), WallClock()
    wide, narrow = operators(cluster, clock)

    assert await wide.attends("team")
    assert not await narrow.attends("team")
    with pytest.raises(NotHolder):
        await narrow.check("team")
    assert await wide.attends("other"), "what nobody else watches is not held up"


async def test_no_namespace_without_objects_has_a_lease_of_the_operator_of_all() -> None:
    cluster, clock = FakeCluster(), WallClock()
    async with Fences(cluster, clock, holder="wide").held():
        await clock.advance(DURATION)

        assert cluster.calls == []


async def test_pods_of_one_name_in_two_namespaces_are_two_holders() -> None:
    first, second = (OperatorSettings.load({"POD_NAME": "op-0", "POD_NAMESPACE": space}).holder for space in ("a", "b"))

    assert first != second


async def test_two_processes_outside_of_pods_are_two_holders() -> None:
    assert OperatorSettings.load({}).holder != OperatorSettings.load({}).holder


async def test_all_leases_are_renewed_while_held_and_free_at_once_afterwards() -> None:
    cluster, clock = FakeCluster(), WallClock()
    first = Fences(cluster, clock, holder="one", namespaces=["a", "b"])
    second = Fences(cluster, clock, holder="two", namespaces=["a", "b"])
    async with first.held():
        await clock.advance(10 * DURATION)
        assert first.held_now
        assert [await second.attends(each) for each in ("a", "b")] == [False, False]

    assert [await second.attends(each) for each in ("a", "b")] == [True, True]


async def test_a_renewal_that_fails_is_tried_again_before_the_lease_is_lost() -> None:
    cluster, clock = FakeCluster(), WallClock()
    one = Fences(cluster, clock, holder="one", namespaces=["team"])
    async with one.held():
        await clock.advance(1)
        cluster.fail(Unavailable("restarting"), times=2)
        await clock.advance(DURATION - 2)
        assert one.held_now
        await clock.advance(DURATION)

        assert one.held_now


async def test_one_namespace_whose_lease_is_refused_holds_up_no_other() -> None:
    cluster, clock = FakeCluster(), WallClock()

    def forbid(call: object) -> None:
        if getattr(call, "namespace", "") == "a":
            raise Forbidden("leases is forbidden")

    cluster.guards.append(forbid)
    one = Fences(cluster, clock, holder="one", namespaces=["a", "b"])
    async with one.held():
        await clock.advance(2 * DURATION)

        assert await one.attends("b")
        assert not one.held_now, "for the metric: not everything is held"
        with pytest.raises(Forbidden):
            await one.attends("a")


async def test_a_namespace_that_is_no_longer_asked_about_is_given_up() -> None:
    cluster, clock = FakeCluster(), WallClock()
    wide, narrow = operators(cluster, clock)
    await wide.check("team")
    async with wide.held():
        await clock.advance(UNUSED.total_seconds() + DURATION)

        assert holder(cluster) == ""
        assert await narrow.attends("team")


async def test_an_operator_that_was_frozen_may_do_nothing_when_it_wakes() -> None:
    """SIGSTOP, a suspended machine, a stuck disk: it still believes that it holds the Lease, and its clock says so."""
    cluster, clock, frozen = FakeCluster(), WallClock(), WallClock()
    asleep = Fences(cluster, frozen, holder="asleep")
    awake = Fences(cluster, clock, holder="awake")
    await asleep.check("team")
    assert not await awake.attends("team")
    clock.pass_by(DURATION)
    assert await awake.attends("team")

    assert asleep.held_now, "by its own clock no time has passed"
    with pytest.raises(NotHolder):
        await asleep.check("team")
    assert holder(cluster) == "awake"


async def test_a_renewal_whose_answer_is_lost_still_holds() -> None:
    cluster, clock = FakeCluster(), WallClock()
    one, two = (Fences(cluster, clock, holder=name) for name in ("one", "two"))
    await one.check("team")
    cluster.fail(Unavailable("connection reset"), verb="replace", after=True)
    with pytest.raises(NotHolder):
        await one.check("team")

    await one.check("team")
    assert not await two.attends("team")


async def test_of_many_that_ask_at_the_same_moment_one_attends() -> None:
    cluster, clock = FakeCluster(), WallClock()
    many = [Fences(cluster, clock, holder=f"op-{n}") for n in range(20)]

    answers = await asyncio.gather(*(each.attends("team") for each in many))

    assert answers.count(True) == 1


class Attended:
    """Notes which operator reconciled, and when."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def __call__(self, _: Key) -> float | None:
        self.log.append(self.name)
        return 5.0


@asynccontextmanager
async def running(cluster: FakeCluster, clock: WallClock, fences: Fences, name: str, log: list[str]) -> AsyncIterator[None]:
    tools = Tools(cluster, clock, fences, Metrics("1"), None, OperatorSettings())  # type: ignore[arg-type]  # asks nobody
    async with fences.held(), Controller(tools, {"AlertPolicy": Attended(name, log)}).running():
        yield


async def test_only_one_of_two_operators_attends_and_the_other_goes_on_when_it_ends() -> None:
    cluster, clock, log = FakeCluster([POLICY]), WallClock(), list[str]()
    wide, narrow = operators(cluster, clock)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(cluster, clock, narrow, "narrow", log))
        async with running(cluster, clock, wide, "wide", log):
            await clock.advance(10 * DURATION)
            first = {*log}
        log.clear()
        await clock.advance(DURATION + 2 * NOT_OURS)

        assert first == {"narrow"}
        assert {*log} == {"narrow"}
    log.clear()
    async with running(cluster, clock, operators(cluster, clock)[0], "wide", log):
        await clock.advance(1)

        assert log == ["wide"], "the Lease was given up at the end"


async def test_while_another_operator_attends_a_rotation_makes_revokes_and_deletes_nothing() -> None:
    world = World()
    other = Fences(world.cluster, world.clock, holder="another")
    await other.check(NAMESPACE)
    before = len(world.cluster.calls)

    for _ in range(20):
        await world.operator(KEY)
        await other.check(NAMESPACE)
        world.clock.pass_by(10)

    assert not gone(world)
    assert not [call for call in world.openai.calls if call.startswith(("POST", "DELETE"))]
    assert not [call for call in world.cluster.calls[before:] if call.kind == SECRET.kind and call.verb != "get"]
