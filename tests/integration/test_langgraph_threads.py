"""Runs on one thread, behind and over each other, on a graph whose state has no messages."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.support.service import running_service


@pytest.fixture
async def client(database_url: str, tmp_path: Path) -> AsyncIterator[LangGraphClient]:
    config = tmp_path / "langgraph.json"
    graphs = {"agent": "tests.support.graphs:gated", "topical": "tests.support.graphs:topical"}
    config.write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    async with (
        running_service(database_url, LANGGRAPH_CONFIG=str(config), MODEL="offline") as service,
        get_client(url=service.url) as client,
    ):
        yield client


async def topic(client: LangGraphClient, thread: str, text: str, **more: Any) -> Any:
    return await client.runs.wait(thread, "topical", input={"topic": text}, raise_error=False, **more)


async def new_thread(client: LangGraphClient) -> str:
    return (await client.threads.create())["thread_id"]


async def test_a_thread_without_messages_goes_on_after_a_run_that_failed(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    assert (await topic(client, thread, "fail"))["__error__"]
    assert (await topic(client, thread, "then"))["log"] == ["then"]


async def test_what_waits_behind_a_run_that_comes_to_ask_does_not_wait_for_the_answer(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    first = asyncio.ensure_future(topic(client, thread, "slow ask"))
    async with asyncio.timeout(10):
        while (await client.threads.get(thread))["status"] != "busy":
            await asyncio.sleep(0.05)
    second = asyncio.ensure_future(topic(client, thread, "next"))
    asked, behind = await asyncio.wait_for(asyncio.gather(first, second), 20)

    assert asked["__interrupt__"]
    assert behind["log"] == ["next"]
    assert (await client.threads.get(thread))["status"] == "idle"


async def test_each_wait_gives_the_state_of_its_own_run(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    states = await asyncio.gather(*(topic(client, thread, f"slow {number}") for number in range(2)))

    assert sorted(len(state["log"]) for state in states) == [1, 2]


async def test_an_answer_while_a_run_is_going_is_refused(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    going = asyncio.ensure_future(topic(client, thread, "slow"))
    async with asyncio.timeout(10):
        while (await client.threads.get(thread))["status"] != "busy":
            await asyncio.sleep(0.05)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await client.runs.wait(thread, "topical", command={"resume": "yes"})
    await going

    assert refused.value.response.status_code == 409


async def test_metadata_and_empty_threads_have_an_end(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    http = client.http.client
    answers = [
        *[await http.patch(f"/threads/{thread}", json={"metadata": {f"key-{n}": "x" * 10_000}}) for n in range(10)],
        *[await http.post("/threads", json={}) for _ in range(300)],
    ]
    refused = {(answer.status_code, answer.json()["code"]) for answer in answers if answer.is_error}

    assert refused == {(422, "invalid_request"), (429, "too_many_threads")}


@pytest.mark.parametrize(
    "more",
    [
        {"config": {"tags": ["a\0"]}},
        {"interrupt_before": ["\0"]},
        {"checkpoint": {"checkpoint_ns": "\0"}},
        {"command": {"goto": {"x": 1}}},
        {"checkpoint": {"checkpoint_map": {"": 5}}},
    ],
)
async def test_what_no_database_or_graph_could_take_is_refused_at_once(client: LangGraphClient, more: dict[str, Any]) -> None:
    thread = await new_thread(client)
    answer = await client.http.client.post(f"/threads/{thread}/runs/wait", json={"assistant_id": "topical", **more})

    assert answer.status_code == 422
    assert answer.json()["field"].split(".")[0] in more


async def test_the_history_of_a_subgraph_that_is_not_there_is_empty(client: LangGraphClient) -> None:
    thread = await new_thread(client)
    await topic(client, thread, "once")
    answer = await client.http.client.post(f"/threads/{thread}/history", json={"checkpoint": {"checkpoint_ns": "nope"}})

    assert answer.json() == []
