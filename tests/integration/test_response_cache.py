"""The response cache at three real replicas: one answer is made however many ask, and it is given as if it had been made anew;
with its answers in PostgreSQL, and in Redis."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from tests.durability.fleet import Fleet, running_fleet, until
from tests.support import sse
from tests.support.fake_script import Fault, Script, echo_tokens
from tests.support.figures import Report
from tests.support.redis_server import Redis, running_redis
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

pytestmark = pytest.mark.slow

ALICE, BOB = bearer("alice"), bearer("bob")

Start = Callable[..., AbstractAsyncContextManager[Fleet]]


@pytest.fixture(params=["postgres", "redis"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis | None]:
    """Where the answers are: None for PostgreSQL."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running_redis()) if request.param == "redis" else None


@pytest.fixture
def start(admin_url: str, tmp_path: Path, redis: Redis | None) -> Start:
    """`start(**env)`: three replicas."""
    return partial(three_replicas, admin_url, tmp_path, **({"REDIS_URL": redis.url} if redis else {}))


async def kept(fleet: Fleet, redis: Redis | None) -> int:
    """Answers whose time is not over."""
    if redis is None:
        return int(fleet.sql("SELECT count(*) FROM slipway.answers WHERE expires_at > now()")[0][0])
    async with Client.from_url(redis.url) as client:
        return len(await client.keys("slipway:*:answer:*}"))


@asynccontextmanager
async def three_replicas(admin_url: str, folder: Path, **env: str) -> AsyncIterator[Fleet]:
    usual = {
        "AUTH": "required",
        "JWT_SECRET": JWT_SECRET,
        "AGENT_GRAPH": "tests.support.graphs:plain",
        "RESPONSE_CACHE_SECONDS": "60",
        "MODEL_MAX_RETRIES": "0",
        "LEASE_SECONDS": "10",  # a busy machine is no dead process: what is counted here are calls of the model
    }
    async with running_fleet(admin_url, folder, 3, each=(), **{**usual, **env}) as fleet:
        fleet.model.script = Script(token_count=20)
        yield fleet


async def ask(
    fleet: Fleet, number: int = 0, question: str = "What is it?", who: dict[str, str] = ALICE, **body: Any
) -> dict[str, Any]:
    url = f"{fleet.replicas[number % 3].url}/chat"
    response = await fleet.client.post(url, json={"question": question, **body}, headers=who, timeout=90)
    assert response.status_code == 200, response.text
    run: dict[str, Any] = response.json()
    return run


def model_calls(fleet: Fleet) -> int:
    return sum(request.path.endswith("/chat/completions") for request in fleet.model.requests)


async def results(fleet: Fleet) -> Counter[str]:
    """agent_cache_requests_total of all replicas together."""
    counted: Counter[str] = Counter()
    for replica in fleet.replicas:
        for line in (await fleet.client.get(f"{replica.ops_url}/metrics")).text.splitlines():
            if line.startswith("agent_cache_requests_total{"):
                counted[line.split('"')[1]] += int(float(line.rpartition(" ")[2]))
    return +counted


async def test_a_hundred_who_ask_the_same_at_once_get_one_answer_that_cost_one_call(
    start: Start, redis: Redis | None, report: Report
) -> None:
    async with start() as fleet:
        fleet.model.script = Script(token_count=20, tokens_per_second=40)

        runs = await asyncio.gather(*(ask(fleet, number) for number in range(100)))

        assert {run["answer"] for run in runs} == {"".join(echo_tokens("What is it?", 20))}
        assert {run["outcome"] for run in runs} == {"completed"}
        assert model_calls(fleet) == 1
        assert Counter(run["usage"]["cached_answer"] for run in runs) == {True: 99, False: 1}
        assert sum(run["cost_usd"] for run in runs) == max(run["cost_usd"] for run in runs) > 0
        counted = await results(fleet)
        where = "Redis" if redis else "PostgreSQL"
        report(f"response cache in {where}: 100 at once at 3 replicas: {model_calls(fleet)} model call, {dict(counted)}")
        assert counted["miss"] == 1
        assert counted["hit"] + counted["waited"] == 99


async def test_a_cached_answer_streams_and_its_session_goes_on_like_any_other(start: Start) -> None:
    async with start() as fleet:
        await ask(fleet, 0)
        body = {"question": "What is it?", "session_id": "s"}
        stream = await sse.read(fleet.client, "POST", f"{fleet.replicas[1].url}/chat/stream", json=body, headers=ALICE)

        assert stream.text == "".join(echo_tokens("What is it?", 20))
        assert stream.done
        [usage] = stream.named("usage")
        assert (usage["cached_answer"], usage["model_calls"], usage["cost_usd"], usage["outcome"]) == (True, 0, 0, "completed")
        assert model_calls(fleet) == 1

        further = await ask(fleet, 2, "And then?", session_id="s")
        assert further["usage"]["cached_answer"] is False
        asked = fleet.model.requests[-1].payload["messages"]
        assert [(m["role"], m["content"]) for m in asked if m["role"] != "system"] == [
            ("user", "What is it?"),
            ("assistant", stream.text),
            ("user", "And then?"),
        ]
        history = (await fleet.client.get(f"{fleet.replicas[0].url}/sessions/s/messages", headers=ALICE)).json()
        assert [message["role"] for message in history["messages"]] == ["user", "assistant"] * 2


async def test_it_is_asked_by_scope_question_and_only_at_the_start_of_a_session(start: Start) -> None:
    async with start() as fleet:
        await ask(fleet, session_id="s")
        for number, kept in enumerate(
            [(await ask(fleet, 1, "What is it ?")), (await ask(fleet, 1, who=BOB)), (await ask(fleet, session_id="s"))]
        ):
            assert kept["usage"]["cached_answer"] is False, number
        assert (await ask(fleet, 2))["usage"]["cached_answer"] is True
        assert model_calls(fleet) == 4


async def test_a_tenant_may_share_answers_and_no_other_tenant_gets_them(start: Start) -> None:
    async with start(RESPONSE_CACHE_SCOPE="tenant") as fleet:
        await ask(fleet)
        assert (await ask(fleet, 1, who=BOB))["usage"]["cached_answer"] is True
        assert (await ask(fleet, 1, who=bearer("bob", tenant="other")))["usage"]["cached_answer"] is False


async def test_an_answer_is_given_for_its_time_and_not_after_its_session_was_erased(start: Start, redis: Redis | None) -> None:
    async with start(RESPONSE_CACHE_SECONDS="2") as fleet:
        first = await ask(fleet)
        assert (await ask(fleet))["usage"]["cached_answer"] is True
        async with asyncio.timeout(20):
            while await kept(fleet, redis):
                await asyncio.sleep(0.05)
        assert (await ask(fleet))["usage"]["cached_answer"] is False
    async with start() as fleet:
        first = await ask(fleet)
        assert (await ask(fleet))["usage"]["cached_answer"] is True
        await fleet.client.delete(f"{fleet.replicas[0].url}/sessions/{first['session_id']}", headers=ALICE)
        if redis is None:
            assert fleet.sql("SELECT count(*) FROM slipway.answers") == [(0,)]
        assert (await ask(fleet))["usage"]["cached_answer"] is False
        assert (await ask(fleet))["usage"]["cached_answer"] is True


async def test_a_failed_answer_is_not_kept_and_whoever_waits_makes_another(start: Start) -> None:
    async with start() as fleet:
        fleet.model.script = Script(token_count=20, faults=[Fault(kind="bad_request")])

        runs = await asyncio.gather(*(ask(fleet, number) for number in range(9)))

        assert Counter(run["outcome"] for run in runs) == {"failed": 1, "completed": 8}
        assert model_calls(fleet) == 2


async def test_the_answer_of_a_killed_replica_is_made_once_more_and_comes_to_all_who_wait(start: Start) -> None:
    async with start(LEASE_SECONDS="3") as fleet:
        fleet.model.script = Script(token_count=20, first_token_seconds=3600)
        url = f"{fleet.replicas[0].url}/chat"
        later = {**ALICE, "Prefer": "respond-async"}
        await fleet.client.post(url, json={"question": "What is it?"}, headers=later)
        await until(lambda: model_calls(fleet) == 1 or None)
        waiting = [asyncio.create_task(ask(fleet, number)) for number in (1, 2, 4)]
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE status = 'running'") == [(4,)])

        fleet.model.script = Script(token_count=20)
        await fleet.replicas[0].kill()

        runs = [await each for each in waiting]
        assert {run["answer"] for run in runs} == {"".join(echo_tokens("What is it?", 20))}
        assert sum(not run["usage"]["cached_answer"] for run in runs) <= 1  # one that waited, or the heir, has made it
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE outcome = 'completed'") == [(4,)])
        assert model_calls(fleet) == 2


async def fallbacks(fleet: Fleet) -> int:
    pages = [(await fleet.client.get(f"{replica.ops_url}/metrics")).text for replica in fleet.replicas]
    lines = [
        line for page in pages for line in page.splitlines() if line.startswith('agent_redis_fallbacks_total{use="answers"}')
    ]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


async def test_without_its_redis_no_turn_fails_and_postgres_has_the_answers(admin_url: str, tmp_path: Path) -> None:
    async with running_redis() as redis, three_replicas(admin_url, tmp_path, REDIS_URL=redis.url) as fleet:
        await ask(fleet)
        assert (await ask(fleet, 1))["usage"]["cached_answer"] is True
        assert await fallbacks(fleet) == 0
        assert fleet.sql("SELECT count(*) FROM slipway.answers") == [(0,)]

        fleet.model.script = Script(token_count=20, tokens_per_second=20)
        making = [asyncio.create_task(ask(fleet, number, "And that?")) for number in range(6)]
        await until(lambda: model_calls(fleet) == 2 or None)
        await redis.stop()  # while one makes an answer and others wait for it

        runs = [await each for each in making]
        assert {run["outcome"] for run in runs} == {"completed"}
        assert {run["answer"] for run in runs} == {"".join(echo_tokens("And that?", 20))}
        assert model_calls(fleet) <= 3, "the one that had begun, and one of those that waited"
        runs = await asyncio.gather(*(ask(fleet, number) for number in range(30)))
        assert sum(not run["usage"]["cached_answer"] for run in runs) == 1
        assert await fallbacks(fleet) > 0

        await redis.start()
        async with asyncio.timeout(30):
            while not await kept(fleet, redis):
                assert (await ask(fleet))["outcome"] == "completed"
                await asyncio.sleep(0.2)


async def test_what_somebody_else_wrote_into_redis_is_no_answer(admin_url: str, tmp_path: Path) -> None:
    async with running_redis() as redis, three_replicas(admin_url, tmp_path, REDIS_URL=redis.url) as fleet:
        await ask(fleet)
        async with Client.from_url(redis.url) as client:
            [name] = await client.keys("slipway:*:answer:*}")
            for text in (b"\xff", b"[1]", b'{"answer": "no"}'):
                await client.set(name, text)
                assert (await ask(fleet))["answer"] == "".join(echo_tokens("What is it?", 20))
            await client.delete(name)
            await client.lpush(name, "not even text")
            assert (await ask(fleet))["outcome"] == "completed"
