"""The bundled database goes away for a while: its pod is deleted, its node is cut off. Runs wait and go on."""

import asyncio
import time

import pytest

from tests.e2e.agent import Agent
from tests.e2e.conftest import REPLICAS
from tests.e2e.measure import eventually, streams, words_at
from tests.support.cluster import Pod, machine, machine_tool
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STREAMS = 60

CUT_SECONDS = 8
"""Longer than a lease, shorter than the time after which a cluster gives a silent node up."""

BACK_SECONDS = 90


async def test_runs_survive_the_deletion_of_the_database_pod(agent: Agent, report: Report) -> None:
    pod = database_pod(agent)
    async with streams(agent, STREAMS, words_at("pod-deleted", words=30, pace=1, pays=True)) as measured:
        await measured.all_reading()
        deleted = time.monotonic()
        await asyncio.to_thread(agent.namespace.kubectl, "delete", "pod", pod.name)
        await eventually(lambda: database_pod(agent).serving, BACK_SECONDS)
        away = time.monotonic() - deleted
    orders, payments = agent.effects("pod-deleted")
    report(f"{measured.line('database pod deleted')}; away for {away:.0f} s, {orders} orders paid {payments} times")

    measured.check()
    assert orders == len(measured.readers)


async def test_runs_survive_a_network_partition_of_the_database(agent: Agent, report: Report) -> None:
    machine_tool()
    node = database_pod(agent).node
    try:
        async with streams(agent, STREAMS, words_at("partition", words=30, pace=1)) as measured:
            await measured.all_reading()
            await asyncio.to_thread(machine, "partition", node)
            await asyncio.sleep(CUT_SECONDS)
            await asyncio.to_thread(machine, "heal", node)
            await eventually(lambda: len(agent.serving()) == REPLICAS, BACK_SECONDS)
    finally:
        machine("heal", node)
    report(f"{measured.line(f'database cut off for {CUT_SECONDS} s')}")

    measured.check()


def database_pod(agent: Agent) -> Pod:
    (pod,) = agent.pods("postgres")
    return pod
