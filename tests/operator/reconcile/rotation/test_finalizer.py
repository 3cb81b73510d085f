"""The end of a KeyRotation: bounded, and it says what is left."""

from typing import Any

from agent_operator.leases import LEASE_NAME, Fences
from agent_operator.reconcile.rotation.finalizer import RETRY
from slipway_clients.cluster import Invalid
from slipway_clients.cluster.kinds import KEY_ROTATION, LEASE, SECRET
from tests.operator.reconcile.rotation.world import KEY, NAMESPACE, World, only_the_current_key_is_left, started


async def delete(world: World) -> None:
    await world.cluster.delete(KEY_ROTATION, NAMESPACE, KEY.name)
    deleted = world.cluster.find(KEY_ROTATION, NAMESPACE, KEY.name)
    assert deleted is not None
    deleted["metadata"]["deletionTimestamp"] = world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    world.cluster.put(deleted)


def gone(world: World) -> bool:
    return world.cluster.find(KEY_ROTATION, NAMESPACE, KEY.name) is None


async def until_gone(world: World) -> None:
    while not gone(world):
        world.clock.pass_by(await world.operator(KEY) or 0)


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

    await until_gone(world)

    assert 300 <= (world.clock.now() - began).total_seconds() <= 320
    [left] = [event for event in world.cluster.events if event.reason == "CleanUpGaveUp"]
    assert "svc_acct_1" in left.message


async def test_an_admin_key_that_was_deleted_first_does_not_hold_the_namespace() -> None:
    world = await end(World())
    world.cluster.drop(SECRET, "slipway-system", "openai-admin")
    began = world.clock.now()

    await until_gone(world)

    assert 300 <= (world.clock.now() - began).total_seconds() <= 320


async def test_an_operator_that_was_away_tries_as_often_as_one_that_was_there() -> None:
    world = await end(World(), deletionPolicy="Revoke")
    world.clock.pass_by(3600)
    world.openai.faults = [("GET", "unavailable")] * 3

    await world.operator(KEY)
    [held] = [each for each in world.status["conditions"] if each["type"] == "CleanedUp"]
    world.clock.pass_by(3600)
    world.restart()
    await until_gone(world)

    assert (held["status"], held["reason"]) == ("False", "ProviderUnavailable")
    assert world.openai.keys == {}
    assert "CleanUpGaveUp" not in world.reasons()


async def test_a_failure_of_the_rotation_before_does_not_count_as_one_of_the_deletion() -> None:
    world = await end(World(), deletionPolicy="Revoke")
    failed = world.object
    failed["status"]["failure"] = {"count": 50, "reason": "Rejected", "message": "no", "nextAttempt": "2026-01-01T00:00:00Z"}
    world.cluster.put(failed)
    world.openai.faults = [("GET", "unavailable")]

    await world.operator(KEY)

    assert world.status["failure"]["count"] == 1


async def test_a_status_that_the_api_refuses_holds_the_namespace_as_long_as_any_failure_from_the_first_try_on() -> None:
    world = await end(World())
    world.cluster.drop(SECRET, "slipway-system", "openai-admin")
    world.cluster.fail(Invalid("status.pending.keyName: required"), verb="replace_status", times=1000)
    world.clock.pass_by(3600)  # no operator was there
    began = world.clock.now()

    await until_gone(world)

    assert 300 <= (world.clock.now() - began).total_seconds() <= 320
    assert "CleanUpGaveUp" in world.reasons()


async def test_an_object_that_never_made_a_key_goes_at_once() -> None:
    world = World()
    world.cluster.drop(SECRET, "slipway-system", "openai-admin")
    world.annotate(paused="true")
    await world.turn()
    world.check = lambda: None  # type: ignore[method-assign]  # the object that it looks at goes away
    await delete(world)

    await world.operator(KEY)

    assert gone(world)


async def test_a_lease_that_is_lost_between_two_deletions_at_the_provider_ends_them() -> None:
    world = await end(World(), deletionPolicy="Revoke")
    for number in (8, 9):
        world.openai.add_account(f"slipway-{world.object['metadata']['uid']}-r{number}")
    answer, before = world.openai.answer, len(world.openai.calls)

    def taken_over(method: str, *rest: Any) -> Any:
        if method == "DELETE":
            lease = world.cluster.find(LEASE, NAMESPACE, LEASE_NAME) or {}
            world.cluster.put({**lease, "spec": {**lease["spec"], "holderIdentity": "another"}})
        return answer(method, *rest)

    world.openai.answer = taken_over  # type: ignore[method-assign, assignment]  # at the worst moment

    assert await world.operator(KEY) == RETRY

    assert [call.partition(" ")[0] for call in world.openai.calls[before:]].count("DELETE") == 1
    assert len(world.openai.accounts) == 2


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

    await until_gone(world)

    assert "CleanUpGaveUp" in world.reasons()
