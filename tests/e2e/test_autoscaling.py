"""Replicas follow the streams that are open: by the Pods metric and an adapter, and by KEDA."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.agent import Agent, running_agent, testkit_values
from tests.e2e.conftest import Report
from tests.e2e.measure import eventually, streams, words_at
from tests.support.cluster import require_api

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LEAST, MOST, TARGET = 2, 4, 5

UP_SECONDS = 60

MAX_TURN_SECONDS = 30
"""Short, since the window of scaling down is as long as the longest turn."""

DOWN_SECONDS = 180

NEEDED = {"pods-metric": "pods.metrics.k8s.io", "keda": "scaledobjects.keda.sh"}


@dataclass
class Watched:
    """How many replicas the autoscaler wanted while pods were leaving."""

    wanted: list[int] = field(default_factory=list)
    leaving: int = 0


@pytest.fixture(params=["pods-metric", "keda"])
def scaled(request: pytest.FixtureRequest) -> Iterator[Agent]:
    if request.param == "keda":
        require_api("scaledobjects.keda.sh")
    autoscaling = {
        "enabled": True,
        "mode": request.param,
        "minReplicas": LEAST,
        "maxReplicas": MOST,
        "targetConcurrency": TARGET,
    }
    values = testkit_values(
        autoscaling=autoscaling,
        streaming={"maxTurnSeconds": MAX_TURN_SECONDS},
        monitoring={"serviceMonitor": {"enabled": True}},
    )
    with running_agent("e2e-scaled", values) as found:
        yield found


async def test_replicas_follow_streams_up_and_down_and_none_is_cut(scaled: Agent, report: Report) -> None:
    mode = scaled.values["autoscaling"]["mode"]
    async with streams(scaled, 2, words_at("few", words=25, pace=1)) as few:
        async with streams(scaled, MOST * TARGET, words_at("many", words=25, pace=1)) as many:
            started = time.monotonic()
            await eventually(lambda: len(scaled.serving()) == MOST, DOWN_SECONDS)
            up = time.monotonic() - started
        watched = Watched()
        started = time.monotonic()
        await eventually(lambda: settled(scaled, watched), DOWN_SECONDS)
        down = time.monotonic() - started
    report(many.line(f"autoscaling, {mode}: {LEAST} to {MOST} replicas in {up:.0f} s"))
    report(few.line(f"autoscaling, {mode}: back to {LEAST} in {down:.0f} s, {watched.leaving} pods drained meanwhile"))

    many.check()
    few.check()
    assert up <= UP_SECONDS
    assert watched.wanted == sorted(watched.wanted, reverse=True), "draining pods were counted"
    assert watched.leaving


def settled(agent: Agent, watched: Watched) -> bool:
    """Whether as few replicas as allowed are left."""
    pods = agent.pods()
    watched.leaving = max(watched.leaving, sum(pod.leaving for pod in pods))
    watched.wanted.append(desired(agent))
    return len(pods) == LEAST


def desired(agent: Agent) -> int:
    autoscalers: list[dict[str, Any]] = agent.namespace.get("hpa")
    return int(autoscalers[0]["status"].get("desiredReplicas", 0))
