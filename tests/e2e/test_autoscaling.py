"""Replicas follow the streams that are open: by the Pods metric and an adapter, and by KEDA."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.agent import Agent, kit_values, running_agent
from tests.e2e.measure import eventually, streams, words_at
from tests.support.cluster import require_api
from tests.support.figures import Report
from tests.support.helm import Values

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MODES = ("pods-metric", "keda")

PROMETHEUS = "http://prometheus.monitoring:9090"

LEAST, MOST, TARGET = 2, 4, 5

UP_SECONDS = 60

MAX_TURN_SECONDS = 30
"""Short, since the window of scaling down is as long as the longest turn."""

DOWN_SECONDS = 180


@dataclass
class Watched:
    """How many replicas the autoscaler wanted while pods were leaving."""

    wanted: list[int] = field(default_factory=list)
    drained: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def scaled() -> Iterator[list[Agent]]:
    """One agent for each mode; together, as most of the time is spent in waiting."""
    require_api("scaledobjects.keda.sh")
    require_api("servicemonitors.monitoring.coreos.com")
    with ExitStack() as stack:
        yield [stack.enter_context(running_agent(f"e2e-{mode}", scaled_values(mode))) for mode in MODES]


def scaled_values(mode: str) -> Values:
    return kit_values(
        autoscaling={
            "enabled": True,
            "mode": mode,
            "minReplicas": LEAST,
            "maxReplicas": MOST,
            "targetConcurrency": TARGET,
            "keda": {"serverAddress": PROMETHEUS},
        },
        streaming={"maxTurnSeconds": MAX_TURN_SECONDS},
        monitoring={"serviceMonitor": {"enabled": True, "interval": "5s"}},
    )


async def test_replicas_follow_streams_up_and_down_and_none_is_cut(scaled: list[Agent], report: Report) -> None:
    await asyncio.gather(*(up_and_down(agent, report) for agent in scaled))


async def up_and_down(agent: Agent, report: Report) -> None:
    mode = agent.values["autoscaling"]["mode"]
    async with streams(agent, 2, words_at("few", words=20, pace=1)) as few:
        async with streams(agent, MOST * TARGET, words_at("many", words=20, pace=1)) as many:
            up = await seconds_until(lambda: len(agent.serving()) == MOST)
        watched = Watched()
        down = await seconds_until(lambda: settled(agent, watched))
    report(many.line(f"autoscaling, {mode}: {LEAST} to {MOST} replicas in {up:.0f} s"))
    report(few.line(f"autoscaling, {mode}: back to {LEAST} in {down:.0f} s, while pods drained"))

    many.check()
    few.check()
    assert up <= UP_SECONDS
    assert watched.drained
    # A draining pod that counted would have the autoscaler want more again.
    assert watched.wanted == sorted(watched.wanted, reverse=True)


async def seconds_until(look: Callable[[], bool]) -> float:
    started = time.monotonic()
    await eventually(look, DOWN_SECONDS)
    return time.monotonic() - started


def settled(agent: Agent, watched: Watched) -> bool:
    """Whether as few replicas as allowed are left."""
    pods = agent.pods()
    watched.drained |= {pod.name for pod in pods if pod.leaving}
    watched.wanted.append(desired(agent))
    return len(pods) == LEAST


def desired(agent: Agent) -> int:
    autoscalers: list[dict[str, Any]] = agent.namespace.get("hpa")
    return int(autoscalers[0]["status"].get("desiredReplicas", 0))
