"""A whole rotation of provider keys, from the object to the revoked key, and what happens to it on the way."""

from datetime import timedelta

from slipway_clients.cluster.kinds import SECRET
from tests.operator.reconcile.rotation.world import NAMESPACE, World, only_the_current_key_is_left, started


async def test_the_first_key_is_made_published_and_confirmed() -> None:
    world = await started(World())

    assert world.secret()["revision"] == "1"
    assert set(world.secret()) == {"current", "revision"}
    assert world.condition("Ready")["status"] == "True"
    assert only_the_current_key_is_left(world)


async def test_a_rotation_keeps_the_old_key_through_the_overlap_and_then_revokes_it() -> None:
    world = await started(World())
    old = world.secret()["current"]
    world.annotate(rotate_now="1")

    await world.until(lambda: world.status["phase"] == "Overlapping")
    assert world.secret()["previous"] == old
    assert world.openai.knows(old)

    await world.until(lambda: world.idle)
    assert "previous" not in world.secret()
    assert world.secret()["revision"] == "2"
    assert only_the_current_key_is_left(world)


async def test_a_request_to_rotate_is_handled_once() -> None:
    world = await started(World())
    world.annotate(rotate_now="now")
    await world.rotate()

    await world.until(lambda: world.clock.now().hour >= 2, seconds=9000)

    assert world.status["revision"] == 2


async def test_a_restart_alone_rotates_nothing() -> None:
    world = await started(World())
    before = world.object["metadata"]["resourceVersion"]

    for _ in range(5):
        world.restart()
        await world.turn()

    assert world.object["metadata"]["resourceVersion"] == before


async def test_it_rotates_when_the_interval_is_over() -> None:
    world = await started(World(options={"schedule": {"interval": "1h"}}))

    await world.rotate(seconds=4000)

    assert world.status["revision"] == 2


async def test_a_schedule_that_means_nothing_is_told_and_the_key_stays_published() -> None:
    world = await started(World())
    world.respec(schedule={"cron": "0 0 31 2 x"})

    assert await world.turn() is None

    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert "schedule.cron" in world.condition("Ready")["message"]
    assert only_the_current_key_is_left(world)


async def test_stripped_annotations_do_not_make_the_key_in_use_an_old_one() -> None:
    world = await started(World())
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Overlapping")
    secret = world.cluster.find(SECRET, NAMESPACE, "openai-key")
    assert secret is not None
    secret["metadata"]["annotations"] = {}
    world.cluster.put(secret)

    await world.until(lambda: world.idle)

    assert only_the_current_key_is_left(world)


async def test_an_emergency_does_not_wait_out_the_pause_of_an_earlier_failure() -> None:
    world = await started(World())
    world.openai.faults = [("POST", "unauthorized")]
    world.annotate(rotate_now="1")
    await world.until(lambda: "failure" in world.status)
    leaked = world.secret()["current"]

    world.annotate(emergency_revoke="1")
    await world.until(lambda: not world.openai.knows(leaked), seconds=90)

    assert world.secret()["revision"] == "2"


async def test_a_rotation_that_was_missed_waits_for_the_next_open_window() -> None:
    world = await started(World(options={"schedule": {"interval": "24h", "deny": [{"start": "09:00", "end": "17:00"}]}}))
    world.clock.pass_by(days_until(world, hour=10, at_least_days=2))
    world.restart()

    await world.turn()
    assert (world.status["revision"], world.status["phase"]) == (1, "Idle")
    assert "T17:00:00" in world.status["nextRotationTime"]

    await world.rotate(seconds=8 * 3600, every=60)
    assert world.clock.now().hour == 17


def days_until(world: World, *, hour: int, at_least_days: int) -> float:
    """Seconds."""
    now = world.clock.now()
    then = (now + timedelta(days=at_least_days + 1)).replace(hour=hour, minute=0, second=0, microsecond=0)
    return (then - now).total_seconds()


async def test_a_schedule_that_is_changed_during_a_rotation_counts() -> None:
    world = await started(World(options={"schedule": {"interval": "720h"}}))
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Overlapping")

    world.respec(schedule={"interval": "1h"})
    await world.until(lambda: world.idle)
    await world.rotate(seconds=4000)

    assert world.status["revision"] == 3
