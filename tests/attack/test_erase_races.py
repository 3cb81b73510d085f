"""A caller who erases a session while everything else that concerns it arrives: each call is done or answered 404, never 500.

Real races, counted; and each statement that can meet a deleted row is made to meet one by a lock on the session.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from agent_service.db.pool import make_pool
from agent_service.runs.prune import Retention, prune
from tests.support.service import running_service

ROUNDS = 8
"""Of each kind; a delay that grows from round to round makes the two meet at different places."""

Response = httpx.Response

CALLS: dict[str, Callable[[httpx.AsyncClient, str, str], Any]] = {
    "resume": lambda client, run, _: client.post(f"/runs/{run}/resume", json={"value": "red"}),
    "resume, streamed": lambda client, run, _: client.post(
        f"/runs/{run}/resume", json={"value": "red"}, headers={"Accept": "text/event-stream"}
    ),
    "feedback": lambda client, run, _: client.post("/feedback", json={"run_id": run, "score": 1}),
    "cancel": lambda client, run, _: client.post(f"/runs/{run}/cancel"),
    "state": lambda client, run, _: client.get(f"/runs/{run}"),
    "stream": lambda client, run, _: client.get(f"/runs/{run}/stream"),
    "stream again": lambda client, run, _: client.get(f"/runs/{run}/stream", headers={"Last-Event-ID": f"{run}-1-1"}),
    "history": lambda client, _, session: client.get(f"/sessions/{session}/messages"),
    "question": lambda client, _, session: client.post("/chat", json={"question": "q", "session_id": session}),
    "erase again": lambda client, _, session: client.delete(f"/sessions/{session}"),
}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:asking") as service, service.client() as http:
        yield http


async def ask(client: httpx.AsyncClient) -> tuple[str, str]:
    session = uuid4().hex
    answer = await client.post("/chat", json={"question": "q", "session_id": session})
    assert answer.status_code == 200, answer.text
    return answer.json()["run_id"], session


async def test_whatever_races_with_an_erasure_is_done_or_not_found(client: httpx.AsyncClient) -> None:
    async def after(seconds: float, call: Any) -> Response:
        await asyncio.sleep(seconds)
        response: Response = await call
        return response

    for name, call in CALLS.items():
        seen: Counter[tuple[int, int]] = Counter()
        for number in range(ROUNDS):
            run, session = await ask(client)
            later = (number - ROUNDS // 2) * 0.004
            erased, other = await asyncio.gather(
                after(max(0.0, later), client.delete(f"/sessions/{session}")),
                after(max(0.0, -later), call(client, run, session)),
            )
            seen[(erased.status_code, other.status_code)] += 1
        print(f"{name}: {ROUNDS} races with DELETE, (erase, call) {dict(seen)}")  # the count is the result
        assert {status for pair in seen for status in pair} <= {200, 202, 204, 404, 409}, (name, seen)


async def test_a_call_that_waits_for_the_erasure_is_answered_not_found(client: httpx.AsyncClient, database_url: str) -> None:
    """The session's row is locked, the call arrives, the session goes: the call's statement meets a deleted row."""
    for name in ("resume", "resume, streamed", "feedback"):
        run, session = await ask(client)
        async with await psycopg.AsyncConnection.connect(database_url) as eraser:
            await eraser.execute("DELETE FROM slipway.sessions WHERE id = %s", (session,))
            calling = asyncio.create_task(CALLS[name](client, run, session))
            await blocked(database_url)
            await eraser.commit()
        answer = await calling
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (name, answer.text)


async def blocked(database_url: str) -> None:
    """Waits until a statement waits for a lock."""
    async with asyncio.timeout(10), await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        while True:
            cursor = await conn.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if await cursor.fetchone():
                return
            await asyncio.sleep(0.01)


async def test_erasing_under_retention_never_fails(client: httpx.AsyncClient, database_url: str) -> None:
    sessions = [(await ask(client))[1] for _ in range(40)]
    async with make_pool(database_url, size=4, timeout=10) as pool:
        stop = False

        async def keep_pruning() -> int:
            passes = 0
            while not stop:
                await prune(pool, Retention(event_hours=1e-9, session_days=1e-9 if passes % 8 == 7 else 0), pause=0)
                passes += 1
            return passes

        pruning = asyncio.create_task(keep_pruning())
        answers = [await client.delete(f"/sessions/{session}") for session in sessions]
        stop = True
        passes = await pruning
    seen = Counter(answer.status_code for answer in answers)
    print(f"erase under {passes} passes of retention: {dict(seen)}")  # the count is the result
    assert set(seen) <= {204, 404}
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        left = await (await conn.execute("SELECT count(*) FROM slipway.sessions")).fetchone()
    assert left == (0,)
