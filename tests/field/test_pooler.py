"""A pooler that gives a server's connection to whoever has a transaction.

https://github.com/langchain-ai/langgraph/pull/6710, https://github.com/cbcoutinho/nextcloud-mcp-server/pull/1032: a statement
was prepared in one server's process and executed in another; 28 of 32 runs failed behind PgBouncer 1.18.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import psycopg
import pytest

from agent_service.db.migrate import migrate
from agent_service.db.pool import make_pool
from agent_service.runs.prune import Retention, prune
from tests.field.roles import owned_database
from tests.support.pgbouncer import pgbouncer
from tests.support.replicas import running_replicas
from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.slow

Mode = Literal["transaction", "session"]

SESSIONS = 8


async def outcomes(service: RunningService, questions: int) -> Counter[str]:
    """Of so many sessions at once that each ask so many questions."""

    async def converse(session: str) -> list[str]:
        async with service.client() as client:
            asked = [
                await client.post("/chat", json={"question": f"What is a lease? {n}", "session_id": session})
                for n in range(questions)
            ]
        return [answer.json().get("outcome", str(answer.status_code)) for answer in asked]

    ended = await asyncio.gather(*(converse(f"s{n}") for n in range(SESSIONS)))
    return Counter(outcome for conversation in ended for outcome in conversation)


@pytest.mark.parametrize(
    ("mode", "told", "questions"), [("transaction", "auto", 4), ("session", "auto", 1), ("session", "session", 1)]
)
async def test_no_run_fails_behind_a_pooler(admin_url: str, mode: Mode, told: str, questions: int) -> None:
    # A pooler resets no setting of the role: what we rely on has to come with each transaction.
    with owned_database(admin_url, DateStyle="'SQL, DMY'", search_path="pg_catalog", lock_timeout="'1ms'") as url:
        # Eleven connections are held for good in session mode.
        async with pgbouncer(url, mode, default_pool_size="30" if mode == "session" else "4") as pooled:
            migrate(pooled)
            async with running_service(pooled, DATABASE_POOLER=told) as service, service.client() as client:
                ended = await outcomes(service, questions)
                history = (await client.get("/sessions/s0/messages")).json()["messages"]
                erased = await client.delete("/sessions/s0")
                done = await prune(service.resources.pool, Retention(event_hours=1e-9, session_days=0))
                listens = await listening(url)
                metrics = (await client.get(f"{service.ops_url}/ready")).status_code

    print(f"PgBouncer, {mode} mode, DATABASE_POOLER={told}: {dict(ended)} of {SESSIONS * questions} runs")
    assert ended == {"completed": SESSIONS * questions}
    assert len(history) == 2 * questions
    assert (erased.status_code, metrics) == (204, 200)
    assert done is not None
    assert (done.runs, done.threads) == ((SESSIONS - 1) * questions, SESSIONS - 1)
    assert listens == (told == "session"), "a LISTEN behind a transaction pooler stays in a connection of others"


async def listening(url: str) -> bool:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        found = await conn.execute(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE %s AND datname = current_database()", ("LISTEN%",)
        )
        notified = await conn.execute(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE %s AND datname = current_database()", ("%pg_notify($1, $2)%",)
        )
        return bool(await found.fetchone() or await notified.fetchone())


async def test_nothing_of_ours_stays_in_the_servers_connection(admin_url: str) -> None:
    """Settings, prepared statements and locks of a session would reach the pooler's next client."""
    with owned_database(admin_url, DateStyle="'SQL, DMY'") as url:
        async with pgbouncer(url, "transaction", default_pool_size="1") as pooled:
            migrate(pooled)
            async with make_pool(pooled, size=2, timeout=10) as pool:
                for _ in range(8):
                    async with pool.connection() as conn:
                        await conn.execute("SELECT count(*) FROM checkpoints")
                        shown = await (await conn.execute("SHOW DateStyle")).fetchone()
                        assert shown == {"DateStyle": "ISO, MDY"}
            async with await psycopg.AsyncConnection.connect(pooled, autocommit=True, prepare_threshold=None) as other:
                left = await other.execute(
                    "SELECT current_setting('DateStyle'), current_setting('search_path'),"
                    " (SELECT count(*) FROM pg_prepared_statements),"
                    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                    "  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
                )
                assert await left.fetchone() == ("SQL, DMY", '"$user", public', 0, 0)


async def test_two_migrations_at_once_take_turns_behind_a_pooler(admin_url: str) -> None:
    with owned_database(admin_url) as url:
        async with pgbouncer(url, "transaction") as pooled:
            applied = await asyncio.gather(*(asyncio.to_thread(migrate, pooled) for _ in range(3)))

    assert sorted(applied)[:2] == [0, 0]
    assert sorted(applied)[2] > 0


@pytest.mark.timeout(180)  # two processes start: minutes on a machine that others use, too
async def test_a_stream_at_another_replica_and_a_cancel_work_by_polling(admin_url: str, tmp_path: Path) -> None:
    with owned_database(admin_url) as url:
        async with pgbouncer(url, "transaction") as pooled:
            migrate(pooled)
            env = {"DATABASE_URL": pooled, "AGENT_GRAPH": "tests.support.graphs:endless"}
            async with running_replicas(2, env, tmp_path) as (one, two), httpx.AsyncClient(timeout=60) as client:
                body = {"question": "go", "session_id": uuid4().hex}
                started: dict[str, Any] = (
                    await client.post(f"{one.url}/chat", json=body, headers={"Prefer": "respond-async"})
                ).json()
                path = f"/runs/{started['run_id']}"
                await client.post(f"{two.url}{path}/cancel")
                async with client.stream("GET", f"{two.url}{path}/stream") as stream:
                    text = (await stream.aread()).decode()

    assert '"cancelled"' in text
