"""What held in the first round of attacks, counted again on two processes of one database: each decision, start and ending once.

Erasures that race are in test_erase_races.py, malformed heads in test_anonymous_client.py, what a log may hold in test_tokens.py
and tests/service/test_logs.py.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from psycopg.rows import dict_row

from tests.support.service import running_service

pytestmark = pytest.mark.timeout(300)  # on a busy machine; usually a few seconds each

APPROVALS, STARTS, CANCELS = 16, 10, 30

EFFECTS: Counter[str] = Counter()
"""What the graph did, by the question that asked for it."""


def build(_: Any) -> StateGraph[MessagesState]:
    """`pay …` waits for a yes and pays; anything else works for a moment."""

    async def node(state: MessagesState) -> dict[str, Any]:
        question = str(state["messages"][-1].content)
        if question.startswith("pay"):
            agreed = interrupt({"ask": question})
            EFFECTS[question] += 1
            return {"messages": [AIMessage(f"paid: {agreed}")]}
        EFFECTS[question] += 1
        await asyncio.sleep(0.02)
        return {"messages": [AIMessage("done")]}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")


@pytest.fixture
async def clients(database_url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    env = {"AGENT_GRAPH": f"{__name__}:build", "MAX_CONCURRENT_RUNS": "64"}
    async with (
        running_service(database_url, **env) as first,
        running_service(database_url, **env) as second,
        first.client() as one,
        second.client() as other,
    ):
        yield [one, other]


async def at_once(*calls: Awaitable[httpx.Response]) -> list[httpx.Response]:
    return list(await asyncio.gather(*calls))


async def test_three_approvals_at_once_have_one_effect(clients: list[httpx.AsyncClient]) -> None:
    turns = cycle(clients)
    outcomes: Counter[int] = Counter()
    for number in range(APPROVALS):
        question = f"pay {uuid4()}"
        run = (await next(turns).post("/chat", json={"question": question})).json()
        assert run["outcome"] == "interrupted", (number, run)
        answers = await at_once(*(next(turns).post(f"/runs/{run['run_id']}/resume", json={"value": who}) for who in "abc"))
        outcomes.update(answer.status_code for answer in answers)
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
        assert EFFECTS[question] == 1
    print(f"\napprovals: {APPROVALS} decided three times at once, {outcomes[200]} taken, each with one effect")


async def test_six_starts_under_one_key_are_one_run(clients: list[httpx.AsyncClient]) -> None:
    turns = cycle(clients)
    for _ in range(STARTS):
        question, key = f"work {uuid4()}", {"Idempotency-Key": uuid4().hex}
        answers = await at_once(*(next(turns).post("/chat", json={"question": question}, headers=key) for _ in range(6)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["run_id"] for answer in answers}) == 1
        assert EFFECTS[question] == 1
    print(f"\nstarts: {STARTS} keys sent six times at once, {STARTS} runs")


async def test_a_cancel_that_meets_the_end_leaves_one_ending(clients: list[httpx.AsyncClient], database_url: str) -> None:
    turns = cycle(clients)
    outcomes: Counter[str] = Counter()

    async def cancelled_after(seconds: float) -> None:
        later = {"Prefer": "respond-async"}
        run = (await next(turns).post("/chat", json={"question": f"work {uuid4()}"}, headers=later)).json()["run_id"]
        await asyncio.sleep(seconds)
        assert (await next(turns).post(f"/runs/{run}/cancel")).status_code == 202
        stream = (await next(turns).get(f"/runs/{run}/stream")).text
        state = (await next(turns).get(f"/runs/{run}")).json()
        assert stream.count("data: [DONE]") == 1
        assert stream.count("event: usage") == 1
        assert f'"outcome":"{state["outcome"]}"' in stream
        outcomes[state["outcome"]] += 1

    for number in range(0, CANCELS, 6):
        await asyncio.gather(*(cancelled_after(0.008 * (number + own)) for own in range(6)))
    assert outcomes.total() == CANCELS
    assert set(outcomes) <= {"completed", "cancelled"}
    with psycopg.connect(database_url, row_factory=dict_row) as conn:
        assert conn.execute("SELECT count(*) AS n FROM slipway.runs WHERE status <> 'finished'").fetchone() == {"n": 0}
    print(f"\ncancels: {CANCELS} against the end of the run: {dict(outcomes)}")


async def test_retention_of_two_seconds_takes_nothing_from_who_reads(database_url: str) -> None:
    env = {"AGENT_GRAPH": f"{__name__}:build", "EVENT_RETENTION_HOURS": str(2 / 3600), "PRUNE_INTERVAL_SECONDS": "0.2"}
    async with running_service(database_url, **env) as service, service.client() as client:
        runs = [(await client.post("/chat", json={"question": f"work {uuid4()}"})).json()["run_id"] for _ in range(12)]
        with psycopg.connect(database_url, row_factory=dict_row, autocommit=True) as conn:
            while conn.execute("SELECT 1 FROM slipway.runs WHERE NOT events_pruned").fetchone():
                await asyncio.sleep(0.05)
        for run in runs:
            stream = (await client.get(f"/runs/{run}/stream")).text
            assert "event: gap" in stream
            assert "data: done" in stream
            assert stream.count("data: [DONE]") == 1
            assert (await client.get(f"/runs/{run}")).json()["answer"] == "done"
    print(f"\nretention: {len(runs)} runs pruned after two seconds, {len(runs)} answers read afterwards")


MALFORMED: list[tuple[str, dict[str, Any], int]] = [
    ("a form", {"content": b"question=q", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 415),
    ("a multipart form", {"files": {"question": b"q"}}, 415),
    ("no type", {"content": b'{"question": "q"}'}, 415),
    ("half a document", {"content": b'{"question": "q"', "headers": {"Content-Type": "application/json"}}, 422),
    ("latin-1", {"content": '{"question": "é"}'.encode("latin-1"), "headers": {"Content-Type": "application/json"}}, 422),
    ("deep", {"content": b"[" * 50_000, "headers": {"Content-Type": "application/json"}}, 422),
    ("a surrogate", {"content": b'{"question": "\\ud800"}', "headers": {"Content-Type": "application/json"}}, 422),
    ("a number that is none", {"content": b'{"question": NaN}', "headers": {"Content-Type": "application/json"}}, 422),
    ("an array", {"json": ["question"]}, 422),
]


@pytest.mark.parametrize(("name", "request_", "status"), MALFORMED, ids=[name for name, *_ in MALFORMED])
async def test_a_malformed_request_starts_nothing(
    clients: list[httpx.AsyncClient], name: str, request_: dict[str, Any], status: int
) -> None:
    answer = await clients[0].post("/chat", **request_)
    assert answer.status_code == status, name
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await clients[0].get("/sessions")).json() == {"sessions": []}
