"""Whatever fails, and in whatever order: the key that a Ready pod uses is accepted by the provider at every moment."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from slipway_clients.cluster import ClusterError, Conflict, Unavailable
from slipway_clients.cluster.kinds import KEY_ROTATION, SECRET
from tests.operator.reconcile.rotation.world import Crash, World, only_the_current_key_is_left

FAULTS = st.sampled_from(["timeout_after_success", "timeout_before", "unavailable", "rate_limited", "unauthorized"])
PODS = st.sampled_from(["10.0.0.1", "10.0.0.2"])


class Rotations(RuleBasedStateMachine):
    """The world checks its promise after each side effect of the operator; the invariant does after everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(options={"schedule": {"interval": "10m"}, "overlap": "30s", "emergency": {"confirmTimeout": "20m"}})

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(work)

    @initialize()
    def first_key(self) -> None:
        self.run(self.world.rotate())

    @rule(seconds=st.sampled_from([1, 10, 60, 700]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.pass_by(seconds)

    @rule()
    def the_operator_looks(self) -> None:
        self.run(self.look())

    @rule(after=st.integers(1, 8))
    def the_operator_dies(self, after: int) -> None:
        self.world.crash_after = len(self.world.effects) + after
        self.run(self.look())

    @rule(method=st.sampled_from(["GET", "POST", "DELETE"]), fault=FAULTS, times=st.integers(1, 3))
    def the_provider_fails(self, method: str, fault: Any, times: int) -> None:
        self.world.openai.faults += [(method, fault)] * times

    @rule(
        error=st.sampled_from([Conflict("modified"), Unavailable("the API server restarts")]),
        kind=st.sampled_from([SECRET, KEY_ROTATION]),
        after=st.booleans(),
    )
    def the_cluster_fails(self, error: ClusterError, kind: Any, after: bool) -> None:
        self.world.cluster.fail(error, verb="replace_status" if kind is KEY_ROTATION else "replace", kind=kind, after=after)

    @rule(address=PODS)
    def a_kubelet_brings_the_secret(self, address: str) -> None:
        pod = self.world.pods[address]
        if not pod.stuck:
            self.world.load(pod)

    @rule(address=PODS, stuck=st.booleans())
    def a_kubelet_stalls_or_recovers(self, address: str, stuck: bool) -> None:
        self.world.pods[address].stuck = stuck

    @rule(address=PODS)
    def a_pod_is_replaced(self, address: str) -> None:
        if self.world.secret():
            self.world.pods[address].stuck = False
            self.world.load(self.world.pods[address])

    @rule(address=PODS, silent=st.booleans())
    def a_pod_falls_silent_or_speaks(self, address: str, silent: bool) -> None:
        self.world.pods[address].silent = silent

    @rule(token=st.integers(1, 10**6))
    def somebody_asks_for_a_rotation(self, token: int) -> None:
        self.world.annotate(rotate_now=str(token))

    @rule()
    def somebody_deletes_the_secret(self) -> None:
        self.world.cluster.drop(SECRET, "team", "openai-key")

    @invariant()
    def every_key_in_use_is_accepted(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            self.run(self.comes_to_rest())
        finally:
            self.loop.close()

    async def look(self) -> None:
        try:
            await self.world.turn()
        except Crash:
            self.world.restart()
        except ClusterError:
            pass  # the queue tries again

    async def comes_to_rest(self) -> None:
        """When nothing fails any more, one key is left, and no orphan."""
        self.world.openai.faults.clear()
        self.world.cluster._faults.clear()
        for pod in self.world.pods.values():
            pod.stuck = pod.silent = False
        self.world.clock.pass_by(700)
        await self.world.until(lambda: self.world.idle and only_the_current_key_is_left(self.world), seconds=7200)


TestRotations = Rotations.TestCase
TestRotations.settings = settings(max_examples=20, stateful_step_count=30)
