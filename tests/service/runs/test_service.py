"""An Idempotency-Key stands for one call with one content: used for another one, it is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import httpx
import pytest

from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, begin
from tests.service.runs.graphs import Effects
from tests.support.problems import check_problem

KEY = {"Idempotency-Key": "k"}

Call = tuple[str, dict[str, Any]]

ASKED: dict[str, Call] = {
    "a question": ("/chat", {"question": "even"}),
    "another question": ("/chat", {"question": "even more"}),
    "the question in a session": ("/chat", {"question": "even", "session_id": "s1"}),
    "the question in another session": ("/chat/stream", {"question": "even", "session_id": "s2"}),
    "a completion": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "even"}]}),
    "a completion with another history": (
        "/v1/chat/completions",
        {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "even"}]},
    ),
    "a completion of somebody": (
        "/v1/chat/completions",
        {"metadata": {"session_id": "u"}, "messages": [{"role": "user", "content": "even"}]},
    ),
}

DECIDED: list[dict[str, Any]] = [{"value": value} for value in ("red", "blue", None, False, 0, "", {"a": 1}, ["red"])]


async def send(client: httpx.AsyncClient, call: Call, key: str) -> httpx.Response:
    path, body = call
    model = {"model": "slipway"} if path.startswith("/v1") else {}
    return await client.post(path, json={**model, **body}, headers={"Idempotency-Key": key})


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(graphs.interrupts_with("colour?"), ON_BUSY="enqueue") as service, service.client() as http:
        yield http


async def test_a_questions_key_stands_for_no_other_call(client: httpx.AsyncClient, database: Database) -> None:
    for number, (first, other) in enumerate(permutations(ASKED, 2)):
        key = f"k{number}"
        assert (await send(client, ASKED[first], key)).status_code == 200
        refused = await send(client, ASKED[other], key)
        assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_conflict"), (first, other)
        assert (await send(client, ASKED[first], key)).status_code == 200
    assert database.rows("SELECT count(*) FROM slipway.runs") == [{"count": number + 1}]


async def test_the_same_question_on_another_route_of_chat_joins(client: httpx.AsyncClient, database: Database) -> None:
    body = {"question": "even", "session_id": "s"}
    answers = [await send(client, (path, body), "k") for path in ("/chat", "/chat/stream")]
    answers.append(await client.get("/chat/stream", params={**body, "idempotency_key": "k"}))

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert database.rows("SELECT count(*) FROM slipway.runs") == [{"count": 1}]


async def test_a_decisions_key_stands_for_no_other_value(client: httpx.AsyncClient, database: Database) -> None:
    asked = (await send(client, ("/chat", {"question": "odd"}), "asks")).json()["run_id"]
    resume = f"/runs/{asked}/resume"
    first = await send(client, (resume, DECIDED[0]), "k")
    for body in DECIDED[1:]:
        check_problem(await send(client, (resume, body), "k"), 409, "idempotency_conflict", field="Idempotency-Key")

    assert (await send(client, (resume, DECIDED[0]), "k")).json()["run_id"] == first.json()["run_id"]
    assert database.rows("SELECT count(*) FROM slipway.runs") == [{"count": 2}]


async def test_two_values_that_race_under_one_key_are_one_decision_and_a_refusal(
    client: httpx.AsyncClient, database: Database
) -> None:
    rounds = 20
    for number in range(rounds):
        asked = (await send(client, ("/chat", {"question": "odd"}), f"asks-{number}")).json()["run_id"]
        calls = [(f"/runs/{asked}/resume", body) for body in ({"value": "red"}, {"value": "blue"}, {"value": "red"})]
        answers = await asyncio.gather(*(send(client, call, f"k-{number}") for call in calls))
        assert sorted({answer.status_code for answer in answers}) == [200, 409]
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"idempotency_conflict"}
    assert database.rows("SELECT count(*) FROM slipway.runs") == [{"count": 2 * rounds}]


@pytest.mark.parametrize("wire", ["ours", "langgraph"])
async def test_a_decision_for_a_graph_whose_changed_files_are_broken_is_refused_and_waits_on(serve: Serve, wire: str) -> None:
    body: dict[str, Any]
    async with serve(graphs.interrupts_with("colour?")) as service, service.client() as client:
        if wire == "ours":
            waiting = (await client.post("/chat", json={"question": "odd"})).json()
            path, body = f"/runs/{waiting['run_id']}/resume", {"value": "red"}
        else:
            thread = (await client.post("/threads", json={})).json()["thread_id"]
            path, body = f"/threads/{thread}/runs/wait", {"assistant_id": "agent", "command": {"resume": "red"}}
            asked = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "odd"}]}}
            assert "__interrupt__" in (await client.post(path, json=asked)).json()
        served = service.resources.graphs.by_name
        whole = dict(served)
        served.update({name: replace(each, broken="agent.py:3: invalid syntax") for name, each in whole.items()})

        refused = await client.post(path, json=body)

        assert (refused.status_code, refused.json()["code"]) == (503, "graph_broken")
        assert "agent.py:3: invalid syntax" in refused.json()["detail"]
        served.update(whole)
        decided = await client.post(path, json=body)
        assert "done: odd" in decided.text
        assert "graph_failed" not in decided.text


async def test_a_questions_key_does_not_stand_for_a_decision(serve: Serve, effects: Effects, database: Database) -> None:
    async with serve(graphs.asks_twice(effects)) as service, service.client(headers=KEY) as client:
        asked = await begin(service, question="q")
        await database.finished(asked)
        other = (await client.post("/chat", json={"question": "other"})).json()

        refused = await client.post(f"/runs/{asked}/resume", json={"value": "yes"})

        check_problem(refused, 409, "idempotency_conflict", field="Idempotency-Key")
        assert effects == []
        assert (await client.post("/chat", json={"question": "other"})).json()["run_id"] == other["run_id"]
        assert database.rows("SELECT count(*) FROM slipway.runs") == [{"count": 2}]


async def test_a_decisions_key_does_not_stand_for_another_decision(serve: Serve, effects: Effects, database: Database) -> None:
    async with serve(graphs.asks_twice(effects)) as service, service.client(headers=KEY) as client:
        asked = await begin(service, question="q")
        await database.finished(asked)
        resumed = (await client.post(f"/runs/{asked}/resume", json={"value": "yes"})).json()

        refused = await client.post(f"/runs/{resumed['run_id']}/resume", json={"value": "yes"})

        check_problem(refused, 409, "idempotency_conflict", field="Idempotency-Key")
        assert "delete=yes" not in effects
