"""agent_operator.reconcile.controller: what becomes of errors, and the look at all objects."""

import pytest
from prometheus_client import CollectorRegistry

from agent_operator.reconcile.controller import AFTER_REFUSAL, PER_NAMESPACE, Controller
from agent_operator.reconcile.tools import Key
from slipway_clients.cluster import ClusterError, Conflict, Forbidden, Invalid, Unavailable
from slipway_clients.cluster.kinds import ALERT_POLICY
from tests.operator.policies import KEY, Bench, bench, policy


class Reconcile:
    """Raises what it is told to, once each, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.seen: list[Key] = []

    async def __call__(self, key: Key) -> float | None:
        self.seen.append(key)
        if self.errors:
            raise self.errors.pop(0)
        return None


def value(registry: CollectorRegistry, metric: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"slipway_operator_{metric}", labels)


def controller(b: Bench, reconcile: Reconcile) -> Controller:
    return Controller(b.tools, {"AlertPolicy": reconcile})


@pytest.mark.parametrize("error", [Forbidden("alertpolicies is forbidden"), Invalid("spec.groups: wrong")])
async def test_a_refusal_is_said_on_the_object_and_tried_again_much_later(error: ClusterError) -> None:
    async with bench(policy()) as b:
        reconcile = Reconcile(error, error)
        async with controller(b, reconcile).running():
            await b.clock.advance(AFTER_REFUSAL - 1)
            assert b.condition("Ready") == ("False", type(error).__name__, str(error))
            # Once more for the condition itself, which is a change of the object.
            assert len(reconcile.seen) == 2

            await b.clock.advance(b.tools.settings.resync_seconds + 1)
            assert len(reconcile.seen) == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Conflict("x"), "conflict"),
        (Unavailable("x"), "unavailable"),
        (RuntimeError("ours"), "internal"),
        (Forbidden("x"), "forbidden"),
    ],
)
async def test_each_error_is_counted_by_its_reason(error: Exception, reason: str) -> None:
    async with bench(policy()) as b:
        registry = b.tools.metrics.registry
        assert value(registry, "reconcile_errors_total", kind="AlertPolicy", reason=reason) == 0
        async with controller(b, Reconcile(error)).running():
            await b.clock.advance(0.5)

        assert value(registry, "reconcile_errors_total", kind="AlertPolicy", reason=reason) == 1
        assert value(registry, "reconcile_duration_seconds_count", kind="AlertPolicy") == 1


async def test_a_passing_error_is_tried_again_within_seconds() -> None:
    async with bench(policy()) as b:
        reconcile = Reconcile(Unavailable("restarting"), Conflict("stale"))
        async with controller(b, reconcile).running():
            await b.clock.advance(4)

        assert len(reconcile.seen) == 3
        assert value(b.tools.metrics.registry, "last_success_timestamp_seconds", kind="AlertPolicy") is not None


async def test_what_the_watch_does_not_tell_is_found_by_the_next_look() -> None:
    async with bench() as b:
        reconcile = Reconcile()
        async with controller(b, reconcile).running():
            await b.clock.advance(1)
            assert reconcile.seen == []
            b.cluster.put(policy())
            await b.clock.advance(b.tools.settings.resync_seconds)

        assert reconcile.seen == [KEY]


async def test_a_look_leaves_alone_what_did_not_change() -> None:
    async with bench(policy()) as b:
        reconcile = Reconcile()
        async with controller(b, reconcile).running():
            await b.clock.advance(10 * b.tools.settings.resync_seconds)

        assert reconcile.seen == [KEY]


async def test_a_list_that_fails_stops_nothing() -> None:
    async with bench(policy()) as b:
        b.cluster.fail(Unavailable("restarting"), verb="list")
        reconcile = Reconcile()
        made = controller(b, reconcile)
        async with made.running():
            await b.clock.advance(b.tools.settings.resync_seconds + 1)

        assert reconcile.seen == [KEY]
        assert made.liveness.complaints() == []


async def test_after_an_outage_every_object_is_looked_at_whatever_pause_it_is_in() -> None:
    async with bench(policy()) as b:
        reconcile = Reconcile()
        watching = controller(b, reconcile)
        async with watching.running():
            await b.clock.advance(1)
            b.cluster.fail(Unavailable("away"), verb="list")
            await watching.look()
            seen = len(reconcile.seen)

            await watching.look()
            await b.clock.advance(1)

            assert len(reconcile.seen) == seen + 1


async def test_an_event_puts_the_object_on_the_queue_and_kinds_of_others_are_left_alone() -> None:
    async with bench() as b:
        reconcile = Reconcile()
        made = controller(b, reconcile)
        async with made.running():
            made.changed(KEY, "1")
            made.changed(Key("KeyRotation", "team", "k"), "1")
            await b.clock.advance(1)

        assert reconcile.seen == [KEY]


async def test_a_namespace_with_too_many_objects_does_not_take_the_workers_from_others() -> None:
    """Those that are too many are left alone, and attended to when others are gone: by the watch, or by the next look."""
    flood = [Key("AlertPolicy", "flood", f"p{number:05}") for number in range(PER_NAMESPACE + 5)]
    async with bench() as b:
        reconcile = Reconcile()
        made = controller(b, reconcile)
        async with made.running():
            for key in flood:
                made.changed(key, "1")
            made.changed(KEY, "1")
            await b.clock.advance(1)
            attended = set(reconcile.seen)

            made.changed(flood[-1], "2")
            await b.clock.advance(1)
            left_alone = flood[-1] not in reconcile.seen

            made.ended(flood[0])
            made.changed(flood[-1], "3")
            await b.clock.advance(1)

        assert attended == {*flood[:PER_NAMESPACE], KEY}
        assert left_alone
        assert reconcile.seen[-1] == flood[-1]
        assert made.liveness.complaints() == []


async def test_objects_that_were_left_alone_are_found_by_a_look_when_there_is_room() -> None:
    names = [f"p{number:05}" for number in range(PER_NAMESPACE + 2)]
    made = policy()
    async with bench(*({**made, "metadata": {**made["metadata"], "name": name, "uid": name}} for name in names)) as b:
        reconcile = Reconcile()
        async with controller(b, reconcile).running():
            await b.clock.advance(1)
            first = {key.name for key in reconcile.seen}
            b.cluster.drop(ALERT_POLICY, KEY.namespace, names[0])
            b.cluster.drop(ALERT_POLICY, KEY.namespace, names[1])
            await b.clock.advance(2 * b.tools.settings.resync_seconds)

        assert first == set(names[:PER_NAMESPACE])
        assert {key.name for key in reconcile.seen} == set(names)


async def test_objects_whose_end_nobody_told_take_no_place() -> None:
    async with bench(policy()) as b:
        reconcile = Reconcile()
        made = controller(b, reconcile)
        for number in range(PER_NAMESPACE):
            made.changed(Key("AlertPolicy", KEY.namespace, f"ghost{number}"), "1")
        async with made.running():
            await b.clock.advance(1)

        assert reconcile.seen[-1] == KEY


async def test_the_series_of_an_object_end_with_it() -> None:
    async with bench(policy()) as b:
        registry = b.tools.metrics.registry
        labels = {"kind": "AlertPolicy", "namespace": "team", "name": "main", "condition": "RulesApplied"}
        await b.reconcile()
        assert value(registry, "condition", **labels) == 1

        controller(b, Reconcile()).ended(KEY)

        assert value(registry, "condition", **labels) is None
