"""New pods take the place of old ones while a hundred people read: a restart, a new version."""

import asyncio

import pytest

from tests.e2e.agent import TESTKIT_NEXT_IMAGE, Agent, image_values
from tests.e2e.measure import streams, threads, words_at
from tests.support.figures import Report
from tests.support.helm import READY_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STREAMS = 100

THREADS = 20
"""Streams of LangGraph's own client beside them."""


async def test_100_streams_lose_nothing_in_a_restart_and_an_upgrade(agent: Agent, report: Report) -> None:
    before = {pod.name for pod in agent.pods()}
    async with (
        streams(agent, STREAMS, words_at("rollout", words=20, pace=1, pays=True)) as measured,
        threads(agent, THREADS, words_at("rollout-sdk", words=20, pace=1), agent.doors[0]) as by_sdk,
    ):
        await measured.all_reading()
        await by_sdk.all_reading()
        await asyncio.to_thread(restart, agent)
        await asyncio.to_thread(agent.upgrade, {"image": image_values(TESTKIT_NEXT_IMAGE)})
    orders, payments = agent.effects("rollout")
    report(by_sdk.line("rollout restart, then upgrade"))
    report(f"{measured.line('rollout restart, then upgrade')}; {orders} orders paid {payments} times")

    assert before.isdisjoint(pod.name for pod in agent.pods())
    assert agent.namespace.kubectl("exec", agent.deployment, "--", "printenv", "TESTKIT_RELEASE").strip() == "2"
    measured.check()
    assert by_sdk.broken() == []
    assert len(measured.readers) >= STREAMS
    assert orders == len(measured.readers)
    # An effect comes again only where its run was taken over, which a machine too busy to renew leases does too.
    assert orders <= payments <= orders + sum(reader.attempts > 1 for reader in measured.readers)


def restart(agent: Agent) -> None:
    agent.namespace.kubectl("rollout", "restart", agent.deployment)
    agent.namespace.kubectl("rollout", "status", agent.deployment, f"--timeout={READY_SECONDS}s")
