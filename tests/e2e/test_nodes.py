"""Nodes that leave: one drained as an administrator does it, one that dies."""

import asyncio
import time

import pytest

from tests.e2e.agent import Agent
from tests.e2e.conftest import REPLICAS, Report
from tests.e2e.measure import eventually, streams, words_at
from tests.support.cluster import kubectl, machine, machine_tool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STREAMS = 60

LAST_RENEWAL_SECONDS = 5.0
"""LEASE_SECONDS: as long as this a dead holder's runs stay its own."""

BACK_SECONDS = 120
"""Until every replica is ready again: a dead node counts as such after 50 s by default, then its pods move."""


async def test_a_node_is_drained_and_the_disruption_budget_holds(agent: Agent, report: Report) -> None:
    node = await eventually(lambda: node_to_lose(agent), 30)
    fewest = REPLICAS
    try:
        async with streams(agent, STREAMS, words_at("drained", words=20, pace=1)) as measured:
            await measured.all_reading()
            draining = asyncio.create_task(asyncio.to_thread(drain, agent, node))
            while not draining.done():
                fewest = min(fewest, len(await asyncio.to_thread(agent.serving)))
            await draining
            left = {pod.node for pod in agent.pods()}
            await eventually(lambda: len(agent.serving()) == REPLICAS, BACK_SECONDS)
    finally:
        kubectl("uncordon", node)
    report(f"{measured.line('node drained')}; never fewer than {fewest} of {REPLICAS} ready")

    assert node not in left
    assert fewest >= REPLICAS - 1
    measured.check()


async def test_a_node_dies_and_its_runs_go_on_elsewhere(agent: Agent, report: Report) -> None:
    machine_tool()
    node = await eventually(lambda: node_to_lose(agent), 30)
    try:
        async with streams(agent, STREAMS, words_at("killed", words=30, pace=1, steps=2)) as measured:
            await measured.all_reading()
            await asyncio.to_thread(machine, "kill-node", node)
            killed = time.monotonic()
            await eventually(lambda: len(serving_elsewhere(agent, node)) == REPLICAS, BACK_SECONDS)
            moved = time.monotonic() - killed
    finally:
        machine("start-node", node)
    recovered = [reader for reader in measured.readers if reader.attempts > 1]
    report(f"{measured.line('node killed')}; {REPLICAS} replicas ready elsewhere after {moved:.0f} s")

    measured.check()
    assert recovered
    assert max(reader.longest_silence for reader in recovered) < LAST_RENEWAL_SECONDS + 10


def node_to_lose(agent: Agent) -> str | None:
    """With a replica, and without the bundled database, whose volume cannot follow it."""
    needed = {pod.node for pod in agent.pods("postgres")}
    # The last one: a cluster's add-ons often stand on the first.
    return max((pod.node for pod in agent.serving() if pod.node not in needed), default=None)


def serving_elsewhere(agent: Agent, node: str) -> list[str]:
    return [pod.name for pod in agent.serving() if pod.node != node]


def drain(agent: Agent, node: str) -> None:
    """Of the agent's pods only: what else runs there is not ours to move."""
    kubectl(
        "drain",
        node,
        f"--pod-selector=app.kubernetes.io/instance={agent.release.name}",
        "--delete-emptydir-data",
        "--timeout=120s",
    )
