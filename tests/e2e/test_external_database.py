"""k8s/database on a cluster: PgBouncer in transaction mode, TLS with a private authority, another password, another primary."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.durability.test_password_rotation import EXAMPLE
from tests.e2e.agent import CHART, Agent, kit_values, open_door
from tests.e2e.external_database import PATIENCE, Database
from tests.e2e.measure import eventually, streams, words_at
from tests.support.cluster import fresh_namespace
from tests.support.figures import Report
from tests.support.helm import Release

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REPLICAS = 2

STREAMS = 30

NAME = "external"

SEEN_SECONDS = 150
"""For a kubelet to bring a changed Secret to its pods: it looks at each once in about a minute."""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with fresh_namespace("e2e-database") as namespace:
        found = Database(namespace)
        found.start()
        yield found


@pytest.fixture(scope="module")
def agent(database: Database) -> Agent:
    """By the example's values, as far as they are about the database."""
    example = yaml.safe_load((EXAMPLE / "agent.values.yaml").read_text(encoding="utf-8"))
    limits = {"ratePerMinute": 0, "runsPerCaller": 0}  # all streams are one caller
    about = {part: example[part] for part in ("postgres", "networkPolicy")}
    values = kit_values(replicaCount=REPLICAS, limits=limits, **about)
    release = Release(database.namespace, NAME, CHART)
    release.upgrade(values)
    return open_door(release, values)


def of_the_first(database: Database) -> str:
    return database.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'slipway_a'")


async def test_a_password_is_replaced_and_the_old_user_locked_out_under_load(
    database: Database, agent: Agent, report: Report
) -> None:
    assert of_the_first(database) != "0"
    async with streams(agent, STREAMS, words_at("rotated", words=20, pace=1)) as measured:
        await measured.all_reading()
        changed = time.monotonic()
        await asyncio.to_thread(database.namespace.apply, database.address("slipway_b", "second"))
        await eventually(lambda: of_the_first(database) == "0", SEEN_SECONDS)
        seconds = time.monotonic() - changed
        await asyncio.to_thread(database.sql, "ALTER ROLE slipway_a NOLOGIN")
        await asyncio.sleep(2)  # turns begin and end without the first user
    report(f"{measured.line('database password replaced, through PgBouncer')}; the old user was gone after {seconds:.0f} s")

    measured.check()
    assert [pod.restarts for pod in agent.pods()] == [0] * REPLICAS


async def test_a_primary_is_lost_and_its_standby_takes_over_under_load(database: Database, agent: Agent, report: Report) -> None:
    async with streams(agent, STREAMS, words_at("failover", words=30, pace=1)) as measured:
        await measured.all_reading()
        await asyncio.to_thread(database.fail_over)
    report(measured.line("database primary lost, standby promoted"))

    measured.check()
    await eventually(lambda: len(agent.serving()) == REPLICAS, PATIENCE)
    assert database.sql("SELECT pg_is_in_recovery()", server="standby") == "f"
