"""An undo that was asked for is done, whoever dies between the cancellation and the end of its run."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
from langgraph_sdk import get_client
from psycopg.rows import dict_row

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.replicas import Replica, running_replicas
from tests.support.thread_reader import asking


async def rows(database: str, query: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True, row_factory=dict_row) as conn:
        return await (await conn.execute(query.encode())).fetchall()


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


async def holder_of(run_id: str, replicas: list[Replica]) -> Replica:
    for replica in replicas:
        async with httpx.AsyncClient() as http:
            if (await http.get(f"{replica.ops_url}/status")).json()["runs_in_flight"]:
                return replica
    raise AssertionError(f"nobody executes {run_id}")


async def test_a_run_is_undone_by_whoever_recovers_it_and_the_next_one_goes_on_from_before(
    env: dict[str, str], model: FakeModel, tmp_path: Path
) -> None:
    database = env["DATABASE_URL"]
    model.script = Script(token_count=4, tokens_per_second=400)
    async with running_replicas(3, env, tmp_path) as replicas:
        async with get_client(url=replicas[0].url) as sdk:
            thread = (await sdk.threads.create())["thread_id"]
            before: Any = await sdk.runs.wait(thread, "agent", input=asking("first"))
            model.script = Script(token_count=400, tokens_per_second=4)
            undone = await sdk.runs.create(thread, "agent", input=asking("never asked"))
            await until(
                lambda: rows(database, "SELECT 1 FROM public.checkpoints WHERE metadata->>'run_id' = '" + undone["run_id"] + "'")
            )
        holder = await holder_of(undone["run_id"], replicas)
        canceller, heir = (replica for replica in replicas if replica is not holder)
        async with get_client(url=heir.url) as sdk, httpx.AsyncClient(base_url=canceller.url, timeout=30) as http:
            next_one = await sdk.runs.create(thread, "agent", input=asking("second"))  # waits behind it
            holder.send(signal.SIGSTOP)  # it ends no run now
            path = f"/threads/{thread}/runs/{undone['run_id']}/cancel?wait=1&action=rollback"
            asked = asyncio.ensure_future(http.post(path))
            await until(lambda: rows(database, "SELECT 1 FROM slipway.runs WHERE undo"))
            going = await rows(database, "SELECT status FROM slipway.runs WHERE undo")
            await canceller.kill()
            await holder.kill()
            with suppress(httpx.TransportError):
                await asked
            model.script = Script(token_count=4, tokens_per_second=400)

            after: Any = await sdk.runs.join(thread, next_one["run_id"])
            history: Any = await sdk.threads.get_history(thread, limit=100)
            listed = await sdk.runs.list(thread)
            status = (await sdk.threads.get(thread))["status"]

    assert going == [{"status": "running"}]  # it was marked, and not yet undone
    said = [message["content"] for message in after["messages"] if message["type"] == "human"]
    assert said == ["first", "second"]
    assert after["messages"][: len(before["messages"])] == before["messages"]
    assert "never asked" not in str(history)
    assert undone["run_id"] not in {run["run_id"] for run in listed}
    assert status == "idle"
