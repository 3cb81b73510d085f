"""From each packaged release to this one under load, and back: old and new pods share a database meanwhile."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.agent import TESTKIT_NEXT_IMAGE, image_values, kit_values, running_agent
from tests.e2e.measure import streams, words_at
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RELEASES = sorted((Path(__file__).parent.parent / "data" / "charts").glob("slipway-[0-9]*.tgz"))

STREAMS = 20


@pytest.mark.parametrize("before", RELEASES, ids=lambda path: path.stem)
async def test_a_release_of_before_is_upgraded_and_rolled_back_without_a_loss(before: Path, report: Report) -> None:
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
