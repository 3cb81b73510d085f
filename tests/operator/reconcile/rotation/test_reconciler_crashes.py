"""The operator dies after each single side effect of a rotation, one after the other. Each time the next one carries on."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from agent_operator.leases import LEASE_NAME
from slipway_clients.cluster.kinds import LEASE, SECRET
from tests.operator.reconcile.rotation.world import NAMESPACE, Crash, World, only_the_current_key_is_left, started


def accounts() -> World:
    return World()


async def effects_of(make: Callable[[], World]) -> int:
    """Side effects of a second rotation: writes to the cluster and calls that change something at the provider."""
    world = await started(make())
    before = len(world.effects)
    world.annotate(rotate_now="1")
    await world.rotate()
    return len(world.effects) - before


async def test_the_second_rotation_survives_a_crash_after_each_side_effect() -> None:
    count = await effects_of(accounts)
    assert count > 10

    for number in range(1, count + 1):
        world = await started(accounts())
        world.crash_after = len(world.effects) + number
        world.annotate(rotate_now="1")

        await world.rotate()

        assert only_the_current_key_is_left(world), f"crash after {world.effects[world.crash_after - 1]}"
        assert world.status["revision"] == 2
        assert set(world.secret()) == {"current", "revision"}


async def test_the_first_rotation_survives_a_crash_after_each_side_effect() -> None:
    world = await started(accounts())
    for number in range(1, len(world.effects) + 1):
        world = accounts()
        world.crash_after = number

        await world.rotate()

        assert only_the_current_key_is_left(world), f"crash after {world.effects[number - 1]}"
        assert world.secret()["revision"] == "1"


async def test_an_emergency_survives_a_crash_after_each_side_effect() -> None:
    number = 0
    while True:
        number += 1
        world = await started(accounts())
        leaked = world.secret()["current"]
        start = len(world.effects)
        world.crash_after = start + number
        world.annotate(emergency_revoke="1")

        await world.rotate()

        assert only_the_current_key_is_left(world)
        assert not world.openai.knows(leaked)
        if len(world.effects) < world.crash_after:
            return


async def test_a_published_key_is_kept_when_the_crash_and_the_loss_of_the_secret_hide_that_it_was() -> None:
    count = await effects_of(accounts)
    for number in range(1, count + 1):
        world = await started(accounts())
        world.crash_after = len(world.effects) + number
        world.annotate(rotate_now="1")
        with suppress(Crash):
            await world.turn()
        world.restart()
        world.sync()
        world.cluster.drop(SECRET, "team", "openai-key")

        await world.until(lambda world=world: world.idle and only_the_current_key_is_left(world))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize("fault", ["timeout_after_success", "timeout_before", "unavailable", "rate_limited", "unauthorized"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_fault_of_the_provider_leaves_no_orphan_and_loses_no_key(method: str, fault: Any) -> None:
    world = await started(World())
    world.openai.faults = [(method, fault)] * 3
    world.annotate(rotate_now="1")

    await world.rotate()

    assert only_the_current_key_is_left(world)
    assert len(world.openai.faults) < 3, "one call at least was spoilt"


async def test_a_lost_answer_to_making_a_key_is_followed_by_deleting_that_key() -> None:
    world = await started(World())
    world.openai.faults = [("POST", "timeout_after_success")]
    world.annotate(rotate_now="1")

    await world.until(lambda: "failure" in world.status)
    assert len(world.openai.keys) == 2, "the key whose value nobody knows"
    assert world.status["failure"]["reason"] == "ProviderUnavailable"

    await world.rotate()
    assert only_the_current_key_is_left(world)


async def test_an_operator_that_follows_a_killed_one_goes_on_as_soon_as_the_lease_is_free() -> None:
    world = await started(World())
    lease = world.cluster.find(LEASE, NAMESPACE, LEASE_NAME)
    assert lease is not None
    lease["spec"]["holderIdentity"] = "the one that was killed"
    world.cluster.put(lease)
    world.annotate(rotate_now="1")

    await world.until(lambda: world.status["revision"] == 2, seconds=40)
    assert "NotLeader" in world.reasons()
