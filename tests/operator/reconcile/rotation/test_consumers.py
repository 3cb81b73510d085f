"""What holds a revoke back, and what an emergency does about it."""

import json
from typing import Any

import pytest

from agent_operator.reconcile.rotation.consumers import Gate, PodReport, ask, at_least, gate
from agent_operator.reconcile.rotation.report import NAMED_PODS
from tests.operator.reconcile.rotation.world import World, only_the_current_key_is_left, started


async def confirming(**options: Any) -> World:
    """The second revision is published; pod 1 cannot load it."""
    world = await started(World(options={"deadline": "5m", **options}))
    next(iter(world.pods.values())).stuck = True
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Confirming")
    return world


async def test_a_pod_that_cannot_load_the_key_blocks_the_revoke_and_is_named_after_the_deadline() -> None:
    world = await confirming()
    old = world.secret()["previous"]

    await world.until(lambda: world.condition("Stuck")["status"] == "True", seconds=400)
    await world.until(lambda: world.clock.now().hour >= 1, seconds=4000)

    assert world.status["phase"] == "Confirming"
    assert world.openai.knows(old)
    assert "agent-1 (1)" in world.condition("Stuck")["message"]
    assert world.condition("Stuck")["reason"] == "PodsNotConfirmed"
    assert world.condition("Ready")["status"] == "True"
    assert world.reasons().count("RotationStuck") == 1
    assert world.metrics.rotation_stuck.labels("team", "model-key")._value.get() == 1
    assert world.metrics.rotation_pods_behind.labels("team", "model-key")._value.get() == 1


async def test_of_hundreds_of_pods_a_status_names_some_and_counts_all() -> None:
    world = await started(World(pod_count=200))
    for pod in world.pods.values():
        pod.stuck = True
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Confirming")
    await world.turn()

    assert len(world.status["unconfirmedPods"]) == NAMED_PODS
    assert len(json.dumps(world.status)) < 8000
    assert world.metrics.rotation_pods_behind.labels("team", "model-key")._value.get() == 200


async def test_it_goes_on_when_the_pod_is_replaced() -> None:
    world = await confirming()
    await world.until(lambda: world.condition("Stuck")["status"] == "True", seconds=400)

    world.pods["10.0.0.1"].stuck = False
    await world.until(lambda: world.idle)

    assert only_the_current_key_is_left(world)
    assert world.condition("Stuck")["status"] == "False"


async def test_a_pod_that_comes_with_the_old_key_during_the_overlap_blocks_the_revoke() -> None:
    world = await started(World())
    late = world.pods["10.0.0.2"]
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Confirming")
    late.ready, late.silent, late.stuck = False, True, True  # it starts slowly, with what it mounted before
    world.show(late)
    await world.until(lambda: world.status["phase"] == "Overlapping")
    late.ready, late.silent = True, False
    world.show(late)

    await world.until(lambda: world.clock.now().minute >= 30, seconds=4000)

    assert world.status["phase"] == "Overlapping"
    assert world.openai.knows(late.files["current"])


async def test_a_selector_that_finds_no_pod_revokes_nothing() -> None:
    world = await started(World())
    world.respec(consumers={"selector": {"matchLabels": {"app": "typo"}}})
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Confirming")

    await world.until(lambda: world.clock.now().minute >= 30, seconds=9000)

    assert world.secret()["previous"]
    assert "at least 1 must" in world.condition("Stuck")["message"]


async def test_an_old_key_that_somebody_else_uses_is_not_revoked() -> None:
    world = await started(World())
    old = world.secret()["current"]
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status["phase"] == "Overlapping")
    world.clock.pass_by(120)
    assert world.openai.accepts(old), "a script that nobody told us of"

    await world.until(lambda: "failure" in world.status)

    assert world.status["failure"]["reason"] == "OldKeyInUse"
    assert world.condition("OldKeyRevoked")["status"] == "False"
    assert world.openai.knows(old)


async def test_a_revoke_that_fails_does_not_hold_the_next_rotation_back() -> None:
    world = await started(World(options={"schedule": {"interval": "1h"}}))
    world.openai.faults = [("DELETE", "unavailable")] * 40

    await world.until(lambda: world.status["revision"] >= 3, seconds=9000)
    world.openai.faults = []
    await world.until(lambda: world.idle)

    assert only_the_current_key_is_left(world)


async def test_an_emergency_revokes_the_leaked_key_and_names_the_pods_that_fail() -> None:
    world = await started(World(options={"emergency": {"confirmTimeout": "30s"}}))
    leaked = world.secret()["current"]
    stuck = world.pods["10.0.0.1"]
    stuck.stuck = True
    world.check = lambda: None  # type: ignore[method-assign]  # that a pod's key stops working is what was asked for
    world.annotate(emergency_revoke="1")

    await world.until(lambda: world.idle and world.status["revision"] == 2, seconds=60)

    assert not world.openai.knows(leaked)
    assert only_the_current_key_is_left(world)
    told = next(event for event in world.cluster.events if event.reason == "EmergencyRevoke")
    assert told.type == "Warning"
    assert "agent-1 (1)" in told.message


async def test_an_emergency_waits_for_pods_that_load_the_key_in_time_and_skips_the_overlap() -> None:
    world = await started(World(options={"overlap": "1h"}))
    leaked = world.secret()["current"]
    world.annotate(emergency_revoke="1")

    await world.rotate(seconds=60)

    assert not world.openai.knows(leaked)
    assert "10.0.0.1" not in str(world.cluster.events)
    await world.until(lambda: world.clock.now().minute > 10)
    assert world.status["revision"] == 2, "the annotation stays, and is handled once"


async def test_an_emergency_goes_on_while_paused() -> None:
    world = await started(World())
    world.annotate(paused="true", rotate_now="1")
    await world.until(lambda: world.clock.now().minute >= 10)
    assert world.status["revision"] == 1
    assert world.condition("Paused")["status"] == "True"

    world.annotate(emergency_revoke="1")
    await world.rotate()

    assert world.status["revision"] == 2


async def test_an_emergency_for_a_revision_that_never_was_does_nothing_then_and_later() -> None:
    world = await started(World())
    world.annotate(emergency_revoke="2")
    await world.turn()
    assert world.status["revision"] == 1

    world.annotate(rotate_now="1")
    await world.rotate()
    await world.until(lambda: world.clock.now().minute >= 20)

    assert world.status["revision"] == 2


def test_a_pod_that_is_not_ready_but_answers_counts() -> None:
    reports = [PodReport("draining", ready=False, answers=True, revision="1"), PodReport("dead", ready=False)]
    assert gate(reports, at_least(2), 1) == Gate(("draining (1)",), 1, 1)


def test_a_ready_pod_that_does_not_answer_holds_the_gate() -> None:
    assert not gate([PodReport("mute", ready=True)], at_least(1), 1).open


def test_a_staged_revision_is_accepted_but_not_yet_used() -> None:
    assert at_least(8, staged=True)("8-next")
    assert not at_least(8)("8-next")
    assert at_least(8)("9")
    assert not at_least(8)("env")


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({"hostNetwork": True, "containers": [{"name": "a"}]}, False),
        ({"hostNetwork": True, "containers": [{"name": "a", "ports": [{"containerPort": 8000}]}]}, False),
        ({"hostNetwork": True, "containers": [{"name": "a", "ports": [{"containerPort": 10250}]}]}, True),
        ({"containers": [{"name": "a"}]}, True),
    ],
)
async def test_a_nodes_own_ports_are_not_asked_through_a_pod_on_its_network(spec: dict[str, Any], asked: bool) -> None:
    calls: list[tuple[str, int]] = []

    class Client:
        async def status(self, address: str, port: int) -> dict[str, Any] | None:
            calls.append((address, port))
            return {"keys": {"openai": "1"}}

    pod = {"metadata": {"name": "a"}, "spec": spec, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    await ask([pod], Client(), 10250, "openai")

    assert bool(calls) is asked


@pytest.mark.parametrize("reported", ["7\n", "7; rm", "x" * 65, "\u0667", "", 7, None, ["7"]])
async def test_what_a_pod_reports_is_a_revision_or_nothing(reported: Any) -> None:
    class Client:
        async def status(self, address: str, port: int) -> dict[str, Any] | None:  # noqa: ARG002  # the protocol's
            return {"keys": {"openai": reported}}

    pod = {"metadata": {"name": "a"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    [report] = await ask([pod], Client(), 9090, "openai")

    assert (report.answers, report.revision) == (True, None)
