"""The end of a KeyRotation: bounded, and it says what is left."""

from typing import Any

from agent_operator.cluster.fences import Fences
from agent_operator.cluster.kinds import KEY_ROTATION, LEASE, SECRET
from agent_operator.cluster.lease import LEASE_NAME
from agent_operator.reconcile.rotation.deletion import RETRY
from tests.operator.rotation.world import KEY, NAMESPACE, World, only_the_current_key_is_left, started


async def delete(world: World) -> None:
    await world.cluster.delete(KEY_ROTATION, NAMESPACE, KEY.name)
    deleted = world.cluster.find(KEY_ROTATION, NAMESPACE, KEY.name)
    assert deleted is not None
    deleted["metadata"]["deletionTimestamp"] = world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    world.cluster.put(deleted)


def gone(world: World) -> bool:
    return world.cluster.find(KEY_ROTATION, NAMESPACE, KEY.name) is None


async def end(world: World, **options: Any) -> World:
    await started(world)
    world.check = lambda: None  # type: ignore[method-assign]  # the object that it looks at goes away
    world.respec(**options)
    await delete(world)
    return world


async def test_by_default_the_key_in_use_stays_with_its_secret() -> None:
    world = await end(World())

    await world.operator(KEY)

    assert gone(world)
    assert only_the_current_key_is_left(world)
    assert "KeysLeftValid" in world.reasons()


async def test_with_revoke_nothing_is_left() -> None:
    world = await end(World(), deletionPolicy="Revoke")

    await world.operator(KEY)

    assert gone(world)
    assert world.openai.keys == {}
    assert world.cluster.find(SECRET, NAMESPACE, "openai-key") is None


async def test_a_staged_key_is_revoked() -> None:
    world = await started(World(options={"verify": {"url": "http://model/v1/models", "timeout": "10m"}}))
    world.openai.accepts = lambda value: value == ""  # type: ignore[method-assign]  # so that it stays staged
    world.annotate(rotate_now="1")
    await world.until(lambda: "failure" in world.status)
    world.check = lambda: None  # type: ignore[method-assign]  # the object that it looks at goes away
    await delete(world)

    await world.operator(KEY)

    assert gone(world)
    assert set(world.secret()) == {"current", "revision"}
    assert only_the_current_key_is_left(world)


async def test_a_provider_that_is_down_holds_the_deletion_for_five_minutes_and_no_longer() -> None:
    world = await end(World(), deletionPolicy="Revoke")
    world.openai.faults = [("GET", "unavailable")] * 100
    began = world.clock.now()

    while not gone(world):
        pause = await world.operator(KEY)
        world.clock.pass_by(pause or 0)

    assert 300 <= (world.clock.now() - began).total_seconds() <= 320
    [left] = [event for event in world.cluster.events if event.reason == "CleanUpGaveUp"]
    assert "svc_acct_1" in left.message


async def test_an_admin_key_that_was_deleted_first_does_not_hold_the_namespace() -> None:
    world = await end(World())
    world.cluster.drop(SECRET, "slipway-system", "openai-admin")
    world.clock.pass_by(301)

    await world.operator(KEY)

    assert gone(world)


async def test_an_object_that_never_made_a_key_goes_at_once() -> None:
    world = World()
    world.cluster.drop(SECRET, "slipway-system", "openai-admin")
    world.annotate(paused="true")
    await world.turn()
    world.check = lambda: None  # type: ignore[method-assign]  # the object that it looks at goes away
    await delete(world)

    await world.operator(KEY)

    assert gone(world)


async def test_while_another_operator_holds_the_lease_nobody_gives_up() -> None:
    world = await end(World(), deletionPolicy="Revoke")
    world.cluster.drop(LEASE, NAMESPACE, LEASE_NAME)
    await Fences(world.cluster, world.clock, holder="another").check(NAMESPACE)
    world.clock.pass_by(301)

    assert await world.operator(KEY) == RETRY

    assert not gone(world)
    assert "CleanUpGaveUp" not in world.reasons()


async def test_a_status_of_an_unknown_shape_does_not_hold_the_namespace() -> None:
    world = await end(World())
    broken = world.object
    broken["status"]["pending"] = {"revision": 2}
    world.cluster.put(broken)
    world.clock.pass_by(301)

    await world.operator(KEY)

    assert gone(world)
    assert "CleanUpGaveUp" in world.reasons()
