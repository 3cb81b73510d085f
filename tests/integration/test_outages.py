"""The database or the model endpoint goes away under a serving process, and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.service.api.conftest import plain_service
from tests.support import sse
from tests.support.fake_model import FakeModel
from tests.support.fake_script import MODELS, Fault, Script, echo_tokens
from tests.support.problems import check_problem
from tests.support.service import RunningService, running_service

PATIENCE_SECONDS = 50.0

DATABASE_TIMEOUT = "2"
"""Seconds until a call gives the database up. Less, and a busy machine is taken for an outage before there is one."""


@asynccontextmanager
async def database_down(url: str) -> AsyncIterator[None]:
    """Cuts every connection to this database, and lets nobody in until the block ends."""
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    async with await psycopg.AsyncConnection.connect(make_conninfo(url, dbname="postgres"), autocommit=True) as admin:
        await admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (conninfo_to_dict(url)["dbname"],)
            )
            yield
        finally:
            await admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "it did not come to be"
        await asyncio.sleep(0.05)


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    async with plain_service(database_url, model, DATABASE_TIMEOUT=DATABASE_TIMEOUT) as running:
        yield running


async def test_calls_get_503_while_the_database_is_away_and_work_again_after(
    client: httpx.AsyncClient, service: RunningService, database_url: str
) -> None:
    run = (await client.post("/chat", json={"question": "before"})).json()
    await eventually(lambda: is_ready(client))

    async with database_down(database_url):
        for answer in await asyncio.gather(
            client.post("/chat", json={"question": "during"}),
            client.get("/chat/stream", params={"question": "during"}),
            client.get(f"/runs/{run['run_id']}"),
            client.get(f"/runs/{run['run_id']}/stream"),
            client.post(f"/runs/{run['run_id']}/cancel"),
            client.get("/sessions"),
            client.get("/usage"),
            client.post("/feedback", json={"run_id": run["run_id"], "score": 1}),
            client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "during"}]}),
        ):
            body = check_problem(answer, 503, "database_unavailable")
            assert body["retryable"] is True
            assert int(answer.headers["retry-after"]) >= 1

        async def unready() -> bool:
            return not await is_ready(client)

        await eventually(unready)
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "unready")
        assert ready.json()["reason"].startswith("database: ")
        health = await client.get("/health")
        assert health.status_code == 503
        assert health.json()["dependencies"]["database"]["ok"] is False
        assert (await client.get("/live")).status_code == 200
        async with httpx.AsyncClient(base_url=service.ops_url) as ops:
            assert (await ops.get("/ready")).json()["reason"].startswith("database: ")

    await eventually(lambda: is_ready(client))
    assert (await client.get("/health")).json()["status"] == "ok"
    assert (await client.post("/chat", json={"question": "after"})).json()["outcome"] == "completed"
    sessions = (await client.get("/sessions")).json()["sessions"]
    assert {session["title"] for session in sessions} == {"after", "before"}


async def test_a_stream_outlives_the_database(
    client: httpx.AsyncClient, service: RunningService, model: FakeModel, database_url: str
) -> None:
    model.script = Script(token_count=60, tokens_per_second=60)
    reading = asyncio.create_task(sse.read(client, "GET", "/chat/stream", params={"question": "long"}))

    async def speaks() -> bool:
        return await service.metric("agent_time_to_first_token_seconds_count") == 1

    await eventually(speaks)
    async with database_down(database_url):
        await asyncio.sleep(0.5)  # a part of the answer falls into the outage
    stream = await reading

    assert stream.done
    assert stream.text == "".join(echo_tokens("long", 60))
    run_id = stream.named("run")[0]["run_id"]

    async def is_answered() -> bool:
        return (await client.get(f"/runs/{run_id}")).status_code == 200

    await eventually(is_answered)  # /ready may not have noticed so short an outage
    replay = await sse.read(client, "GET", f"/runs/{run_id}/stream")
    assert [(e.id, e.data) for e in replay.events] == [(e.id, e.data) for e in stream.events]
    assert (await client.get(f"/runs/{run_id}")).json()["usage"]["model_calls"] == 1


async def test_a_model_endpoint_that_is_down_shows_in_health_and_takes_no_pod_out(database_url: str, model: FakeModel) -> None:
    model.script = Script(faults=[Fault(kind="server_error", model=MODELS, times=1_000)])
    async with plain_service(database_url, model, MODEL_MAX_RETRIES="0") as service, service.client() as client:

        async def noticed() -> bool:
            dependencies = (await client.get("/health")).json()["dependencies"].values()
            return all(dependency["checked_seconds_ago"] is not None for dependency in dependencies)

        await eventually(noticed)
        health = await client.get("/health")
        assert health.status_code == 503
        dependencies = health.json()["dependencies"]
        assert (dependencies["database"]["ok"], dependencies["model_endpoint"]["ok"]) == (True, False)
        assert (await client.get("/ready")).status_code == 200
        assert (await client.get("/live")).status_code == 200


async def test_the_offline_model_has_no_endpoint_to_check(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        assert list((await client.get("/health")).json()["dependencies"]) == ["database"]
