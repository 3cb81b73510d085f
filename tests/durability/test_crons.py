"""Crons on three replicas that are killed: each time has one run."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
from langgraph_sdk import get_client
from psycopg.rows import dict_row

from tests.support.replicas import running_replicas

CRONS = 30

DUE = "UPDATE slipway.crons SET next_run = date_trunc('minute', now()) - interval '3 hours'"

WAITING = "SELECT count(*) AS n FROM slipway.crons WHERE next_run <= now()"

RUNS = "SELECT input->'wire'->'metadata'->>'mark' AS mark FROM slipway.runs"


async def rows(database: str, query: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True, row_factory=dict_row) as conn:
        cursor = await conn.execute(query.encode())
        return await cursor.fetchall() if cursor.description else []


async def none_due(database: str) -> None:
    while (await rows(database, WAITING))[0]["n"]:
        await asyncio.sleep(0.1)


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def test_each_time_of_a_cron_has_one_run_whichever_replica_dies(database_url: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": database_url, "MODEL": "offline", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with running_replicas(3, env, tmp_path) as replicas, get_client(url=replicas[2].url) as sdk:
        for n in range(CRONS):
            await sdk.crons.create("agent", schedule="0 0 1 1 *", input=asking("hi"), metadata={"mark": str(n)})
        await rows(database_url, DUE)
        while not await rows(database_url, RUNS):
            await asyncio.sleep(0.005)
        await asyncio.gather(replicas[0].kill(), replicas[1].kill())  # one of them, or the third, is in the midst of them
        await none_due(database_url)
        crons = await rows(database_url, "SELECT last_run_id, last_error, next_run > now() AS later FROM slipway.crons")

        marks = [int(row["mark"]) for row in await rows(database_url, RUNS)]
        assert sorted(marks) == list(range(CRONS))
        assert [cron for cron in crons if cron["last_error"] or not cron["later"] or not cron["last_run_id"]] == []


async def test_a_time_that_is_refused_is_told_of_and_passes(database_url: str, tmp_path: Path) -> None:
    env = {
        "DATABASE_URL": database_url,
        "MODEL": "offline",
        "AGENT_GRAPH": "tests.support.graphs:plain",
        "RATE_LIMIT_PER_MINUTE": "1",
    }
    async with running_replicas(1, env, tmp_path) as (replica,), get_client(url=replica.url) as sdk:
        thread = (await sdk.threads.create())["thread_id"]
        gone: Any = await sdk.crons.create_for_thread(thread, "agent", schedule="0 0 1 1 *", input=asking("hi"))
        ended: Any = await sdk.crons.create("agent", schedule="0 0 1 1 *", input=asking("hi"), end_time=None)
        for _ in range(2):
            await sdk.crons.create("agent", schedule="0 0 1 1 *", input=asking("hi"))
        await sdk.threads.delete(thread)
        await rows(database_url, DUE)
        await rows(database_url, f"UPDATE slipway.crons SET end_time = now() - interval '1 hour' WHERE id = '{ended['cron_id']}'")
        await none_due(database_url)
        told: Any = {cron["cron_id"]: cron for cron in await sdk.crons.search()}

    errors = [str(cron["last_error"]).partition(":")[0] for cron in told.values()]
    assert sorted(errors) == ["None", "end_time had passed", "rate_limited"]
    assert gone["cron_id"] not in told  # it went with its thread
    assert told[ended["cron_id"]]["next_run_date"] is None
    assert len(await rows(database_url, RUNS)) == 1
