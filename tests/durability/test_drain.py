"""SIGTERM: what a process that goes away does with its runs, its streams and the questions that still arrive."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.durability.fleet import Fleet, running_fleet, until
from tests.durability.graphs import STEPS
from tests.support.fake_script import Script, echo_tokens
from tests.support.replicas import is_ready

pytestmark = pytest.mark.xdist_group("drain")


@pytest.fixture
async def fleet(admin_url: str, tmp_path: Path, drain_seconds: str) -> AsyncIterator[Fleet]:
    async with running_fleet(admin_url, tmp_path, 2, DRAIN_SECONDS=drain_seconds) as fleet:
        yield fleet


@pytest.mark.parametrize("drain_seconds", ["0.3"])
async def test_at_the_limit_a_run_moves_at_a_step_boundary_and_no_step_is_taken_twice(fleet: Fleet) -> None:
    here = fleet.replicas[0]
    questions = [f"steps {n}" for n in range(3)]
    readers = [fleet.reader(question) for question in questions]
    reading = asyncio.gather(*(reader.run(fleet.client) for reader in readers))
    await until(lambda: all("step 3" in reader.text for reader in readers))

    assert await here.stop() == 0
    stopped_after = [sum(effect.startswith(f"{q}:") for effect in fleet.effects()) for q in questions]
    await reading

    assert sorted(fleet.effects()) == sorted(f"{q}: {step}" for q in questions for step in range(STEPS))
    assert all(4 <= steps < STEPS for steps in stopped_after), "the hand-over came too late to show anything"
    for reader in readers:
        assert reader.text == "\n\n".join(f"step {n}" for n in range(STEPS))
        assert (reader.outcome, reader.visible_errors, reader.attempts) == ("completed", [], 2)
        assert len(reader.kept[0]) >= len("step 0\n\nstep 1\n\nstep 2")
    assert fleet.sql("SELECT DISTINCT attempt, crashes FROM slipway.runs") == [(2, 0)]


@pytest.mark.parametrize("drain_seconds", ["60"])
async def test_while_draining_a_peer_takes_new_questions_and_a_second_sigterm_hurries(fleet: Fleet) -> None:
    here = fleet.replicas[0]
    fleet.model.script = Script(token_count=150, tokens_per_second=20)
    old = fleet.reader("agent, a long answer")
    reading = asyncio.create_task(old.run(fleet.client))
    await until(lambda: len(old.text) > 40)
    here.send(signal.SIGTERM)

    while await is_ready(fleet.client, here.ops_url):
        await asyncio.sleep(0.02)
    fleet.model.script = Script(token_count=5)
    accepted = await fleet.ask(here, "agent, a new question")
    new = await fleet.ended(here, accepted.json()["run_id"])
    status = (await fleet.client.get(f"{here.ops_url}/status")).json()
    assert (accepted.status_code, new["outcome"]) == (202, "completed")
    assert new["answer"] == "".join(echo_tokens("agent, a new question", 5))
    assert (status["draining"], status["runs_in_flight"]) == (True, 1)
    assert old.attempts == 1

    fleet.model.script = Script(token_count=150, tokens_per_second=200)
    hurried = time.monotonic()
    here.send(signal.SIGTERM)
    assert await here.wait(10) == 0
    assert time.monotonic() - hurried < 10  # the drain limit is 60
    await reading

    assert old.text == "".join(echo_tokens("agent, a long answer", 150))
    assert (old.outcome, old.visible_errors, old.attempts) == ("completed", [], 2)
    assert fleet.sql("SELECT attempt, crashes FROM slipway.runs ORDER BY created_at") == [(2, 0), (1, 0)]
