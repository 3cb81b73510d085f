"""Runs of several graphs when their process dies: each goes on in its own graph, at a process that serves it."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.durability.fleet import until
from tests.support.replicas import Replica, running_replicas

PROJECT = Path(__file__).parents[1] / "data/project/langgraph.json"

BOTH = {"LANGGRAPH_CONFIG": str(PROJECT)}
ONE = {"LANGGRAPH_CONFIG": "", "AGENT_GRAPH": f"{PROJECT.parent}/src/several_echo.py:build"}


IN_A_STEP = """
SELECT count(DISTINCT r.id) FROM slipway.runs r JOIN slipway.run_events e ON e.run_id = r.id
WHERE r.status = 'running' AND e.events::text LIKE '%"node"%'
"""


@pytest.fixture
def env(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "LEASE_SECONDS": "1", "MODEL": "offline"}


async def ask(client: httpx.AsyncClient, replica: Replica, question: str, **fields: str) -> str:
    body = {"question": question, **fields}
    answer = await client.post(f"{replica.url}/chat", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def ended(client: httpx.AsyncClient, replica: Replica, run_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        run: dict[str, Any] = (await client.get(f"{replica.url}/runs/{run_id}")).json()
        return run if run["outcome"] else None

    return await until(look)


def attempts(database_url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        return conn.execute("SELECT graph, attempt, status FROM slipway.runs ORDER BY created_at").fetchall()


async def until_within_a_step(database_url: str, runs: int) -> None:
    def look() -> bool:
        with psycopg.connect(database_url, autocommit=True) as conn:
            row = conn.execute(IN_A_STEP).fetchone()
        return row == (runs,)

    await until(look)


async def test_adopted_runs_go_on_each_in_its_own_graph(
    env: dict[str, str], client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    async with running_replicas(2, {**env, **BOTH}, tmp_path) as (first, second):
        for name, question in (("echo", "one"), ("asking", "no colour")):
            await ended(client, first, await ask(client, first, question, graph=name, session_id=name))
        runs = [
            await ask(client, first, "slowly", graph="echo", session_id="echo"),
            await ask(client, first, "slowly no colour", session_id="asking"),
            await ask(client, first, "slowly", graph="echo"),
            await ask(client, first, "slowly", graph="asking"),
        ]
        await until_within_a_step(database_url, 4)

        await first.kill()
        told = [await ended(client, second, run) for run in runs]

    assert [run["answer"] for run in told] == ["echo 2 hello: slowly", "asking: none+none", "echo 1 hello: slowly", ""]
    assert [run["outcome"] for run in told] == ["completed"] * 3 + ["interrupted"]
    assert [row[:2] for row in attempts(database_url)[2:]] == [("echo", 2), ("asking", 2)] * 2


async def test_a_process_without_its_graph_leaves_a_run_to_one_that_has_it(
    env: dict[str, str], client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    async with running_replicas(2, env, tmp_path, [BOTH, ONE]) as (both, one):
        asking = await ask(client, both, "slowly no colour", graph="asking")
        agent = await ask(client, one, "slowly")
        await until_within_a_step(database_url, 2)
        await both.kill()
        await asyncio.gather(ended(client, one, agent), asyncio.sleep(3))
        assert attempts(database_url)[0] == ("asking", 1, "running"), "somebody without the graph took its run"
        refused = await client.post(f"{one.url}/chat", json={"question": "q", "graph": "asking"})
        assert refused.status_code == 422, refused.text

        await both.start()

        assert (await ended(client, both, asking))["answer"] == "asking: none"
        assert attempts(database_url) == [("asking", 2, "finished"), ("agent", 1, "finished")]


async def test_a_process_ends_a_cancelled_run_whose_graph_it_lacks(
    env: dict[str, str], client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    async with running_replicas(2, env, tmp_path, [BOTH, ONE]) as (both, one):
        asking = await ask(client, both, "slowly no colour", graph="asking", session_id="s")
        await until_within_a_step(database_url, 1)
        await both.kill()

        await client.post(f"{one.url}/runs/{asking}/cancel")

        assert (await ended(client, one, asking))["outcome"] == "cancelled"
        later = await client.post(f"{one.url}/chat", json={"question": "q", "session_id": "s"})
        assert (later.status_code, later.json()["code"]) == (409, "other_graph")
        with contextlib.suppress(httpx.HTTPError):
            assert (await client.delete(f"{one.url}/sessions/s")).status_code == 204
