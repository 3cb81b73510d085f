import asyncio
import time
from typing import Any

import pytest

from bench.figures import Results
from bench.stage import QUICK, Scenario, Stage, bounded


async def forever(_: Stage) -> None:
    await asyncio.sleep(3600)


async def own_timeout(_: Stage) -> None:
    raise TimeoutError("a server was not ready")


def stage() -> Stage:
    nothing: Any = None
    return Stage(nothing, "", QUICK, Results(), time.monotonic())


async def test_a_scenario_ends_after_its_own_time() -> None:
    with pytest.raises(TimeoutError, match="not through after 0 s"):
        await bounded(Scenario("x", "", forever, 0.01), stage(), 1)


async def test_a_scenario_ends_when_the_time_of_all_is_over() -> None:
    with pytest.raises(TimeoutError, match="not through"):
        await bounded(Scenario("x", "", forever, 600), stage(), 0.0005)
    with pytest.raises(TimeoutError, match="not begun: 0 minutes"):
        await bounded(Scenario("x", "", forever, 600), stage(), 0)


async def test_a_timeout_within_a_scenario_keeps_its_reason() -> None:
    with pytest.raises(TimeoutError, match="a server was not ready"):
        await bounded(Scenario("x", "", own_timeout, 600), stage(), 1)
