"""From the release before this one to this one under load, and back: old and new pods share a database meanwhile."""

import asyncio
from pathlib import Path

import pytest
from packaging.version import Version

from tests.e2e.agent import TESTKIT_NEXT_IMAGE, image_values, kit_values, running_agent
from tests.e2e.conftest import Report
from tests.e2e.measure import streams, words_at

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RELEASES = Path(__file__).parent.parent / "data" / "charts"

STREAMS = 20


async def test_the_release_before_is_upgraded_and_rolled_back_without_a_loss(report: Report) -> None:
    before = max(RELEASES.glob("slipway-*.tgz"), key=lambda path: Version(path.stem.removeprefix("slipway-")))
    values = kit_values(replicaCount=2, streaming={"maxTurnSeconds": 60})
    with running_agent("e2e-upgrade", values, chart=before) as agent:
        async with streams(agent, STREAMS, words_at("upgrade", words=15, pace=1)) as measured:
            await measured.all_reading()
            await asyncio.to_thread(agent.upgrade, {"image": image_values(TESTKIT_NEXT_IMAGE)})
            await asyncio.to_thread(agent.release.rollback)
        charts = {item["metadata"]["labels"]["helm.sh/chart"] for item in agent.namespace.get("deployments")}
    report(measured.line(f"upgrade from {before.stem} and rollback"))

    measured.check()
    assert charts == {before.stem}
