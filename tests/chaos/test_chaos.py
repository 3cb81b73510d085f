"""`make chaos`: minutes of faults under load, and one counted line for each scenario."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.durability.fleet import Fleet, running_fleet
from tests.support.fake_script import Script, ToolCall, echo_tokens
from tests.support.load import load
from tests.support.postgres import ensure_template, own_server
from tests.support.reader import Reader

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(280)]

SEED = 4
"""Of the moments at which processes die: a failure can be had again, as far as two cores allow."""

REPLICAS = 3

ENV: dict[str, Any] = {"LEASE_SECONDS": "5", "DATABASE_POOL_SIZE": "5"}
"""The default lease: what is measured here is what a user gets. The pools of all replicas fit one small server."""

Report = Callable[[str], None]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")  # noqa: T201  # the product of `make chaos`

    return write


def tokens(count: int, *before: str) -> Callable[[Reader], list[str]]:
    return lambda reader: [*before, *(token.strip() for token in echo_tokens(reader.question, count))]


async def test_200_streams_while_every_replica_is_replaced_twice(admin_url: str, tmp_path: Path, report: Report) -> None:
    script = Script(token_count=40, tokens_per_second=2)
    async with running_fleet(admin_url, tmp_path, REPLICAS, **ENV, DRAIN_SECONDS="2") as fleet:
        fleet.model.script = script
        async with load(200, fleet.urls, fleet.client, "agent, rolled {}".format) as tally:
            for _ in range(2 * REPLICAS):
                new, old = await fleet.grow(), fleet.replicas[0]
                fleet.replicas[:] = [*fleet.replicas[1:], new]
                assert await old.stop() == 0
        line, counts = tally.line("rolled twice", tokens(40))
    report(line)
    assert counts["streams"] >= 200
    assert [counts[name] for name in ("lost", "duplicated", "failed", "errors", "unfinished")] == [0] * 5


async def test_50_kills_at_random_moments(admin_url: str, tmp_path: Path, report: Report) -> None:
    dice = random.Random(SEED)
    said = [f"word-{n} " for n in range(5)]
    booking = [ToolCall(name="book", arguments={"order": "1"})]
    script = Script(token_count=20, tokens_per_second=10, preface=said, tool_calls=booking)
    async with running_fleet(admin_url, tmp_path, REPLICAS, **ENV) as fleet:
        fleet.model.script = script
        async with load(20, fleet.urls, fleet.client, "agent, killed {}".format) as tally:
            for _ in range(50):
                await asyncio.sleep(dice.uniform(0, 1.5))
                victim = dice.choice(fleet.alive())
                await victim.kill()
                await fleet.heal(script)
        line, counts = tally.line("50 kills", tokens(20, *(word.strip() for word in said)))
        booked = fleet.effects().count("book 1")
        # An effect may come again only where its process died before the effect's own write was saved.
        endings = dict(fleet.sql("SELECT outcome, count(*) FROM slipway.runs GROUP BY 1"))
        crashes = fleet.sql("SELECT sum(crashes) FROM slipway.runs")[0][0]
    completed = endings["completed"]
    report(f"{line}; {crashes} attempts died, tools: {completed} expected, {booked} run")
    assert [counts[name] for name in ("lost", "duplicated", "errors", "unfinished")] == [0] * 4
    assert set(endings) <= {"completed", "failed"}
    assert counts["failed"] <= crashes // 3
    assert completed <= booked <= completed + counts["failed"] + crashes // 10


async def under_database_faults(scenario: str, fault: Callable[[Fleet], None], url: str, folder: Path, report: Report) -> None:
    async with running_fleet(url, folder, REPLICAS, **ENV) as fleet:
        fleet.model.script = Script(token_count=60, tokens_per_second=10)
        async with load(60, fleet.urls, fleet.client, f"agent, {scenario} {{}}".format) as tally:
            started = time.monotonic()
            while time.monotonic() - started < 30:
                await asyncio.sleep(4)
                await asyncio.to_thread(fault, fleet)
        line, counts = tally.line(scenario, tokens(60))
        # Who comes while the database is away is told 503 and comes again; who reads already must notice nothing.
        broken = [error for reader in tally.readers for error in reader.errors if "503 Service Unavailable" not in error]
    report(f"{line}; {len(broken)} connections broken")
    assert [counts[name] for name in ("lost", "duplicated", "failed", "errors", "unfinished")] == [0] * 5
    assert not broken, broken[0]


async def test_postgres_restarts_under_load(tmp_path: Path, report: Report) -> None:
    with own_server(max_connections="100") as server:
        ensure_template(server.url)

        def restart(_: Fleet) -> None:
            server.stop("fast")
            server.start()

        await under_database_faults("postgres restarted", restart, server.url, tmp_path, report)


async def test_connections_are_cut_under_load(admin_url: str, tmp_path: Path, report: Report) -> None:
    def cut(fleet: Fleet) -> None:
        fleet.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    await under_database_faults("connections cut", cut, admin_url, tmp_path, report)
