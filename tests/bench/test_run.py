import asyncio
import time
from typing import Any

import pytest

from bench.client import Refused, WrongAnswer
from bench.figures import Figure, Results
from bench.run import measure
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


async def refused(_: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(failing(Refused("status 503: busy")))


async def wrong(_: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(failing(ConnectionResetError()))
        group.create_task(failing(WrongAnswer("249 characters of 250")))


async def failing(error: Exception) -> None:
    raise error


async def good(stage: Stage) -> None:
    stage.record(Figure("x", "x", ""), "one", 1)


async def test_a_scenario_that_fails_is_named_and_the_rest_goes_on() -> None:
    found = stage()
    await measure([Scenario("bad", "", refused, 5), Scenario("slow", "", forever, 0.01), Scenario("good", "", good, 5)], found, 1)
    assert found.results.failed == {"bad": "Refused: status 503: busy", "slow": "it was not through after 0 s"}
    assert found.results.median("x", "one") == 1


async def test_a_wrong_answer_ends_the_bench() -> None:
    found = stage()
    with pytest.raises(WrongAnswer, match="249 characters"):
        await measure([Scenario("wrong", "", wrong, 5), Scenario("good", "", good, 5)], found, 1)
    assert not found.results.rows
