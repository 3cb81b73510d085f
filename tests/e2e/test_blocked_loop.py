"""A graph that blocks the event loop: the pod keeps its probes and metrics, and is restarted only after LIVENESS_TIMEOUT."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.agent import Agent, kit_values, running_agent
from tests.e2e.measure import eventually, streams
from tests.support.cluster import Pod
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIVENESS_TIMEOUT = 30

KILLED_WITHIN = 75
"""LIVENESS_TIMEOUT, then the failures that the kubelet counts before it acts."""


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """Two replicas, of which one gets stuck."""
    short = {"LIVENESS_TIMEOUT": LIVENESS_TIMEOUT, "HEARTBEAT_SECONDS": 2}
    values = kit_values(replicaCount=2, streaming={"maxTurnSeconds": 30}, env=short)
    with running_agent("e2e-blocked", values) as found:
        yield found


async def test_a_blocked_pod_answers_its_probes_and_lives_until_the_liveness_timeout(agent: Agent, report: Report) -> None:
    async with streams(
        agent, 1, lambda number: f"id=stuck-{number} words=20 pace=2 block={600 if number == 0 else 0}"
    ) as measured:
        stuck = await eventually(lambda: unready_pod(agent), 60)
        blocked = time.monotonic() - silent_seconds(agent, stuck)
        ready, metrics = agent.namespace.ops(stuck, "/ready"), agent.namespace.ops(stuck, "/metrics")
        restarts = agent_pod(agent, stuck).restarts
        await eventually(lambda: agent_pod(agent, stuck).restarts > restarts, KILLED_WITHIN)
        killed_after = time.monotonic() - blocked
    report(f"{measured.line('blocked loop')}; restarted {killed_after:.0f} s after the block (limit {LIVENESS_TIMEOUT} s)")

    assert "event loop blocked" in ready
    assert "agent_event_loop_lag_seconds" in metrics
    assert LIVENESS_TIMEOUT <= killed_after <= KILLED_WITHIN
    measured.check()


def unready_pod(agent: Agent) -> str | None:
    return next((pod.name for pod in agent.pods() if not pod.ready and silent_seconds(agent, pod.name) > 1), None)


def silent_seconds(agent: Agent, pod: str) -> float:
    return float(json.loads(agent.namespace.ops(pod, "/live"))["silent_seconds"])


def agent_pod(agent: Agent, name: str) -> Pod:
    return next(pod for pod in agent.pods() if pod.name == name)
