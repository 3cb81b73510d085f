"""Leases use the database's clock: replicas whose own clocks differ by two minutes neither steal runs nor leave them."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.durability.fleet import LEASE_SECONDS, Fleet, running_fleet, until
from tests.support.fake_script import Script, echo_tokens
from tests.support.replicas import Replica

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime: on Debian, apt install faketime")

TOKENS = 120


@pytest.fixture
async def fleet(admin_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    # Timers stay real: a machine with a wrong clock still measures durations well.
    shifted = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    each = [{**shifted, "FAKETIME": "-60s"}, {**shifted, "FAKETIME": "+60s"}]
    async with running_fleet(admin_url, tmp_path, 2, each=each) as fleet:
        fleet.model.script = Script(token_count=TOKENS, tokens_per_second=20)
        yield fleet
        forget(fleet.replicas)


def forget(replicas: list[Replica]) -> None:
    """Deletes what the library leaves of a process that is killed."""
    for replica in replicas:
        assert replica.process
        for leftover in Path("/dev/shm").glob(f"*faketime_s*_{replica.process.pid}"):
            leftover.unlink()


def clock(replica: Replica) -> datetime | None:
    """The replica's own, from the line that it writes when it begins to serve; it is ready a moment before."""
    lines = (json.loads(line) for line in replica.log.read_text().splitlines() if line.startswith("{"))
    return next((datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == "serving"), None)


async def test_a_run_stays_with_its_process_and_is_adopted_after_one_lease(fleet: Fleet) -> None:
    behind, ahead = [await until(partial(clock, replica)) for replica in fleet.replicas]
    assert ahead - behind > timedelta(seconds=90)
    readers = [fleet.reader(f"agent, what time is it at {n}?") for n in range(2)]
    for number, reader in enumerate(readers):
        reader.offset = number
    tasks = [asyncio.create_task(reader.run(fleet.client)) for reader in readers]
    # Two leases long both work side by side; a Python clock in a lease would be 60 s off in one way or the other.
    await until(lambda: all(echo_tokens(r.question, TOKENS)[20 * 2 * LEASE_SECONDS] in r.text for r in readers))
    assert fleet.sql("SELECT attempt, crashes FROM slipway.runs") == [(1, 0)] * 2

    await fleet.replicas[1].kill()
    await asyncio.gather(*tasks)

    assert [r.text for r in readers] == ["".join(echo_tokens(r.question, TOKENS)) for r in readers]
    assert [(r.outcome, r.visible_errors, r.attempts) for r in readers] == [("completed", [], 1), ("completed", [], 2)]
    assert readers[1].longest_silence < LEASE_SECONDS + 1 + 3
