"""Stored assistants on Slipway: whose they are, what bounds them, what their runs are given, what is left of them."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

import httpx
import pytest
from langchain_core.messages import AIMessage
from langgraph.config import get_config
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from agent_service.auth.api_keys import create_key
from agent_service.runs import assistant_store, crons
from tests.support.service import RunningService, running_service
from tests.support.traces import traces

HI: Any = {"messages": [{"role": "user", "content": "hi"}]}


class Named(TypedDict):
    """A context without which no run begins."""

    name: str


async def say(state: MessagesState, runtime: Runtime[Named]) -> dict[str, Any]:  # noqa: ARG001  # LangGraph names it
    config = get_config()
    told = config["metadata"].get("team"), config["configurable"].get("name"), config.get("tags") or []
    return {"messages": [AIMessage(f"{runtime.context['name']} {told}")]}


def build(_: Any) -> Any:
    return StateGraph(MessagesState, context_schema=Named).add_node("say", say).add_edge(START, "say")


@pytest.fixture
async def service(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningService]:
    monkeypatch.setattr(crons, "POLL_SECONDS", 0.5)
    keys = tmp_path / "keys"
    for user in ("ann", "bob"):
        (tmp_path / user).write_text(create_key(keys, user=user, tenant="acme", role="user"))
    async with running_service(
        database_url, AGENT_GRAPH=f"{__name__}:build", MODEL="offline", AUTH="required", API_KEYS_DIR=str(keys)
    ) as running:
        yield running


@pytest.fixture
async def ann(service: RunningService, tmp_path: Path) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=service.url, api_key=(tmp_path / "ann").read_text()) as client:
        yield client


@pytest.fixture
async def bob(service: RunningService, tmp_path: Path) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=service.url, api_key=(tmp_path / "bob").read_text()) as client:
        yield client


async def answer(sdk: LangGraphClient, assistant: str, **options: Any) -> str:
    values: Any = await sdk.runs.wait(None, assistant, input=HI, **options)
    return str(values["messages"][-1]["content"])


async def test_anothers_assistant_is_as_one_that_is_none(ann: LangGraphClient, bob: LangGraphClient) -> None:
    hers: Any = await ann.assistants.create("agent", context={"name": "plutonium"}, metadata={"secret": "plutonium"})

    async def attempts(assistant: str) -> list[tuple[int, str]]:
        http = bob.http.client
        path = f"/assistants/{assistant}"
        run = {"assistant_id": assistant, "input": HI}
        calls: list[tuple[str, str, Any]] = [
            *((method, path, body) for method, body in (("GET", None), ("PATCH", {"name": "mine"}), ("DELETE", None))),
            ("DELETE", f"{path}?delete_threads=true", None),
            *(("GET", f"{path}/{what}", None) for what in ("graph", "schemas", "subgraphs", "subgraphs/x")),
            ("POST", f"{path}/versions", {}),
            ("POST", f"{path}/latest", {"version": 1}),
            *(("POST", f"/runs{way}", run) for way in ("", "/wait", "/stream")),
            ("POST", "/runs/batch", [run]),
            ("POST", "/runs/crons", {**run, "schedule": "0 0 1 1 *"}),
            ("POST", "/runs/crons/search", {"assistant_id": assistant}),
        ]
        answers = [await http.request(method, where, json=body) for method, where, body in calls]
        return [(each.status_code, re.sub(f"{assistant}|{each.headers['x-request-id']}", "*", each.text)) for each in answers]

    of_hers, of_none = await attempts(hers["assistant_id"]), await attempts(str(uuid4()))
    assert of_hers == of_none
    assert {status for status, _ in of_hers} == {404, 422}
    assert await bob.assistants.search(metadata={"secret": "plutonium"}) == []

    # An id is its owner's own: the same one is free for everybody else.
    his: Any = await bob.assistants.create("agent", assistant_id=hers["assistant_id"], context={"name": "his"})
    await bob.assistants.update(his["assistant_id"], name="Changed")
    await bob.assistants.delete(his["assistant_id"], delete_threads=True)
    assert await ann.assistants.get(hers["assistant_id"]) == hers


async def test_a_caller_has_a_bound_of_assistants_of_versions_and_of_bytes(
    ann: LangGraphClient, bob: LangGraphClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assistant_store, "MAX_ASSISTANTS", 3)
    monkeypatch.setattr(assistant_store, "MAX_VERSIONS", 2)
    http = ann.http.client
    made = await asyncio.gather(*(http.post("/assistants", json={"graph_id": "agent"}) for _ in range(8)))
    assert sorted(each.status_code for each in made) == [200] * 3 + [422] * 5
    assert (await ann.assistants.count(), await bob.assistants.count()) == (4, 1)  # with the graph's own

    assistant = next(each.json()["assistant_id"] for each in made if each.status_code == 200)
    for n in range(4):
        await ann.assistants.update(assistant, name=f"n{n}")
    assert [each["version"] for each in await ann.assistants.get_versions(assistant)] == [5, 4]
    assert (await ann.assistants.set_latest(assistant, 4))["name"] == "n2"
    assert (await ann.assistants.update(assistant, name="next"))["version"] == 6
    assert [each["version"] for each in await ann.assistants.get_versions(assistant)] == [6, 5]

    for change, field in (
        ({"context": {"name": "x" * 33_000}}, "config"),
        ({"context": {"nam": "x"}}, "context.nam"),
        ({"config": {"configurable": {"thread_id": "x"}}}, "config.configurable.thread_id"),
        ({"config": {"configurable": {"__pregel_send": "x"}}}, "config.configurable.__pregel_send"),
        ({"config": {"run_name": "x"}}, "config.run_name"),
        ({"graph_id": "nope"}, "graph_id"),
        ({"metadata": {"x": "x" * 17_000}}, "metadata"),
        ({"version": 1}, "version"),
    ):
        refused = await http.patch(f"/assistants/{assistant}", json=change)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert (await ann.assistants.get(assistant))["version"] == 6
    own = await http.patch("/assistants/fe096781-5601-53d2-b2f6-0d3403f7e9ca", json={"name": "mine"})
    assert (own.status_code, own.json()["code"]) == (403, "forbidden")


async def test_versions_that_are_made_at_once_are_all_there(ann: LangGraphClient) -> None:
    assistant = (await ann.assistants.create("agent", metadata={"n": 0}))["assistant_id"]
    await asyncio.gather(*(ann.assistants.update(assistant, metadata={f"n{n}": n}) for n in range(10)))
    versions = await ann.assistants.get_versions(assistant, limit=20)
    assert [each["version"] for each in versions] == list(range(11, 0, -1))
    assert versions[0]["metadata"] == {"n": 0, **{f"n{n}": n for n in range(10)}}


async def test_what_an_assistant_holds_lies_under_what_its_run_gives(ann: LangGraphClient) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await answer(ann, "agent")
    assert refused.value.response.json()["field"] == "context.name"

    by_context = (await ann.assistants.create("agent", context={"name": "Ada"}, metadata={"team": "law"}))["assistant_id"]
    assert await answer(ann, by_context) == "Ada ('law', None, [])"
    assert await answer(ann, by_context, context={"name": "Eve"}, metadata={"team": "own"}) == "Eve ('own', None, [])"
    assert await answer(ann, by_context, config={"configurable": {"name": "Zoe"}}) == "Zoe ('law', 'Zoe', [])"
    config: Any = {"configurable": {"name": "Bea"}, "tags": ["a", "b"], "metadata": {"team": "tax"}}
    by_config = (await ann.assistants.create("agent", config, metadata={"team": "law"}))["assistant_id"]
    assert await answer(ann, by_config, config={"tags": ["b", "c"]}) == "Bea ('tax', 'Bea', ['a', 'b', 'c'])"
    assert await answer(ann, by_config, context={"name": "Eve"}) == "Eve ('tax', 'Bea', ['a', 'b'])"


async def test_a_run_by_the_name_of_its_graph_asks_for_no_stored_assistant(
    ann: LangGraphClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("a statement more for each run")

    monkeypatch.setattr(assistant_store.AssistantStore, "get", never)
    for name in ("agent", "fe096781-5601-53d2-b2f6-0d3403f7e9ca"):
        assert await answer(ann, name, context={"name": "Ada"}) == "Ada (None, None, [])"


async def test_a_cron_takes_the_version_of_its_time(service: RunningService, ann: LangGraphClient) -> None:
    assistant = (await ann.assistants.create("agent", context={"name": "Ada"}))["assistant_id"]
    cron: Any = await ann.crons.create(assistant, schedule="0 0 1 1 *", input=HI, on_run_completed="keep")
    await ann.assistants.update(assistant, context={"name": "Eve"})
    async with service.resources.pool.connection() as conn:
        await conn.execute("UPDATE slipway.crons SET next_run = now()")
    async with asyncio.timeout(60):
        while not (begun := (await ann.http.client.get(f"/runs/crons/{cron['cron_id']}")).json())["last_run_id"]:
            await asyncio.sleep(0.1)
    (thread,) = await ann.threads.search(metadata={"assistant_id": assistant})
    values: Any = await ann.runs.join(thread["thread_id"], begun["last_run_id"])
    assert values["messages"][-1]["content"].startswith("Eve ")


async def test_of_an_assistant_that_is_deleted_with_its_threads_nothing_is_left(ann: LangGraphClient, database_url: str) -> None:
    mark = f"mark{uuid4().hex}"
    said: Any = {"messages": [{"role": "user", "content": mark}]}
    assistant = (await ann.assistants.create("agent", context={"name": mark}, metadata={"mark": mark}, name=mark))["assistant_id"]
    await ann.assistants.update(assistant, description=mark)
    await ann.crons.create(assistant, schedule="0 0 1 1 *", input=said)
    thread = (await ann.threads.create())["thread_id"]
    await ann.runs.wait(thread, assistant, input=said)
    assert traces(database_url, mark).keys() >= {"slipway.assistant_versions", "slipway.crons", "slipway.runs"}
    await ann.assistants.delete(assistant, delete_threads=True)
    assert traces(database_url, mark) == {}
