"""What one caller may begin, at three real replicas on one database: exact, whoever is asked, with and without Redis."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability.fleet import Fleet, running_fleet, until
from tests.support.fake_script import Script
from tests.support.figures import Report
from tests.support.redis_server import SERVERS, counted_by
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

pytestmark = pytest.mark.slow

LIMIT = 40


@asynccontextmanager
async def three_replicas(admin_url: str, folder: Path, **env: str) -> AsyncIterator[Fleet]:
    secured = {"AUTH": "required", "JWT_SECRET": JWT_SECRET, "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with running_fleet(admin_url, folder, 3, each=(), **secured, **env) as fleet:
        fleet.model.script = Script(token_count=5)
        yield fleet


async def ask(fleet: Fleet, number: int, who: dict[str, str], **body: Any) -> httpx.Response:
    """Of each three questions one goes to each replica; nobody waits for the answer."""
    url = f"{fleet.replicas[number % 3].url}/chat"
    question = {"question": f"question {number}", **body}
    return await fleet.client.post(url, json=question, headers={"Prefer": "respond-async", **who}, timeout=60)


@pytest.mark.parametrize("server", SERVERS)
async def test_of_two_hundred_questions_at_once_exactly_the_limit_begins(
    admin_url: str, tmp_path: Path, server: str, report: Report
) -> None:
    env = {"RATE_LIMIT_PER_MINUTE": str(LIMIT), "MAX_QUEUED_RUNS": "500", "MAX_QUEUED_PER_PRINCIPAL": "500"}
    async with counted_by(server) as counter, three_replicas(admin_url, tmp_path, **env, **counter) as fleet:
        # At the turn of a minute the share of the one before falls, and another one may begin.
        await until(lambda: fleet.sql("SELECT 1 WHERE extract(second FROM clock_timestamp()) < 50"), 15)
        answers = await asyncio.gather(*(ask(fleet, number, bearer("alice")) for number in range(200)))

        statuses = Counter(answer.status_code for answer in answers)
        report(f"rate, counted by {server}: 200 questions at once to 3 replicas, limit {LIMIT} a minute: {dict(statuses)}")
        assert statuses == {202: LIMIT, 429: 200 - LIMIT}
        assert fleet.sql("SELECT count(*) FROM slipway.runs") == [(LIMIT,)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.json()["code"] for answer in refused} == {"rate_limited"}
        assert all(1 <= int(answer.headers["Retry-After"]) <= 120 for answer in refused)
        assert {answer.headers["RateLimit-Remaining"] for answer in refused} == {"0"}
        left = {int(answer.headers["RateLimit-Remaining"]) for answer in answers if answer.status_code == 202}
        assert left <= set(range(LIMIT))
        assert {answer.headers["RateLimit-Limit"] for answer in answers} == {str(LIMIT)}
        assert (await ask(fleet, 0, bearer("bob"))).status_code == 202
        assert (await ask(fleet, 0, bearer("alice", tenant="other"))).status_code == 202


async def test_a_caller_has_so_many_runs_at_a_time_and_a_place_again_when_one_ends_or_its_process_dies(
    admin_url: str, tmp_path: Path
) -> None:
    async with three_replicas(admin_url, tmp_path, MAX_RUNS_PER_PRINCIPAL="6", RATE_LIMIT_PER_MINUTE="0") as fleet:
        fleet.model.script = Script(token_count=1, first_token_seconds=3600)
        alice = bearer("alice")

        answers = await asyncio.gather(*(ask(fleet, number, alice) for number in range(30)))

        assert Counter(answer.status_code for answer in answers) == {202: 6, 429: 24}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "too_many_runs"
        assert int(refused.headers["Retry-After"]) >= 1
        assert "RateLimit-Limit" not in refused.headers

        for answer in answers:
            if answer.status_code == 202:
                await fleet.client.post(f"{fleet.replicas[0].url}/runs/{answer.json()['run_id']}/cancel", headers=alice)
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE status <> 'finished'") == [(0,)])
        assert [(await ask(fleet, number, alice)).status_code for number in range(8)] == [202] * 6 + [429] * 2

        await fleet.replicas[2].kill()  # its runs go on elsewhere: they still count
        assert (await ask(fleet, 0, alice)).status_code == 429
        fleet.model.script = Script(token_count=1)
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE attempt > 1 AND status = 'finished'") > [(0,)])
        async with asyncio.timeout(20):
            while (await ask(fleet, 0, alice)).status_code != 202:
                await asyncio.sleep(0.1)


async def test_questions_with_a_key_and_decisions_count_and_a_retry_does_not(admin_url: str, tmp_path: Path) -> None:
    async with three_replicas(admin_url, tmp_path, RATE_LIMIT_PER_MINUTE="4") as fleet:
        alice = bearer("alice")

        async def keyed(key: str, number: int) -> int:
            return (await ask(fleet, number, {**alice, "Idempotency-Key": key}, session_id=key)).status_code

        retried = await asyncio.gather(*(keyed("one", 0) for _ in range(20)))
        assert set(retried) == {202}
        assert fleet.sql("SELECT recent + earlier FROM slipway.callers") == [(1,)]

        assert sorted(await asyncio.gather(*(keyed(f"k{n}", n) for n in range(1, 7)))) == [202] * 3 + [429] * 3
        assert fleet.sql("SELECT recent + earlier FROM slipway.callers") == [(4,)]


@pytest.mark.timeout(240)  # five hundred turns with a tenth of a second each: 20 s on an idle machine, minutes on a busy one
@pytest.mark.parametrize("server", SERVERS)
async def test_who_asks_twice_does_not_wait_for_the_five_hundred_of_another(
    admin_url: str, tmp_path: Path, server: str, report: Report
) -> None:
    env = {
        "MAX_CONCURRENT_RUNS": "4",
        "MAX_QUEUED_RUNS": "1000",
        "MAX_QUEUED_PER_PRINCIPAL": "1000",
        "MAX_RUNS_PER_PRINCIPAL": "0",
        "RATE_LIMIT_PER_MINUTE": "100000",
    }
    async with counted_by(server) as counter, three_replicas(admin_url, tmp_path, **env, **counter) as fleet:
        fleet.model.script = Script(token_count=5, tokens_per_second=50)  # a tenth of a second
        few = asyncio.Semaphore(60)  # so that a busy machine does not run out of connections to its database

        async def in_turn(number: int) -> httpx.Response:
            async with few:
                return await ask(fleet, number, bearer("alice"))

        flood = await asyncio.gather(*(in_turn(number) for number in range(500)))
        assert Counter(str(answer.json().get("code", answer.status_code)) for answer in flood) == {"202": 500}
        both = await asyncio.gather(*(ask(fleet, number, bearer("bob")) for number in range(2)))
        assert {answer.status_code for answer in both} == {202}

        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE status <> 'finished'") == [(0,)], 120)

        waits = fleet.sql(
            "SELECT user_id, count(*), max(extract(epoch FROM started_at - created_at))::float8,"
            " avg(extract(epoch FROM started_at - created_at))::float8 FROM slipway.runs GROUP BY user_id ORDER BY user_id"
        )
        for user, count, longest, mean in waits:
            # Whoever begins at once has started a little before its transaction is there.
            waited = f"{max(longest, 0):.2f} s at most, {max(mean, 0):.2f} s in the mean"
            report(f"fair share of 12 places, rate counted by {server}: the {count} questions of {user} waited {waited}")
        (_, _, alice, _), (_, _, bob, _) = waits
        assert bob < alice / 4
        assert fleet.sql("SELECT count(*) FROM slipway.runs WHERE outcome <> 'completed'") == [(0,)]


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "with keys"])
async def test_of_many_callers_at_once_no_more_wait_than_the_queue_has_places(
    admin_url: str, tmp_path: Path, keyed: bool, report: Report
) -> None:
    places = 20
    env = {"MAX_CONCURRENT_RUNS": "1", "MAX_QUEUED_RUNS": str(places)}
    async with three_replicas(admin_url, tmp_path, **env) as fleet:
        fleet.model.script = Script(token_count=1, first_token_seconds=3600)

        async def one(number: int) -> httpx.Response:
            key = {"Idempotency-Key": f"key-{number}"} if keyed else {}
            return await ask(fleet, number, {**bearer(f"user-{number}"), **key})

        answers = await asyncio.gather(*(one(number) for number in range(150)))

        statuses = Counter(answer.status_code for answer in answers)
        report(f"queue: 150 callers at once at 3 replicas with a place each and a queue of {places}: {dict(statuses)}")
        assert fleet.sql("SELECT status, count(*) FROM slipway.runs GROUP BY 1 ORDER BY 1") == [
            ("queued", places),
            ("running", 3),
        ]
        assert statuses == {202: places + 3, 503: 150 - places - 3}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 503)
