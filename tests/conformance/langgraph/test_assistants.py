"""Assistants that a client stores: config and context of its own over a graph, in versions."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, ASSISTANT, COUNTER, named, parts, question

pytestmark = pytest.mark.asyncio(loop_scope="session")

YEARLY = "0 0 1 1 *"


@pytest_asyncio.fixture(loop_scope="session")
async def formal(sdk: LangGraphClient) -> AsyncIterator[str]:
    """The id of an assistant with a context."""
    made = await sdk.assistants.create(
        AGENT, context={"tone": "formal"}, metadata={"team": "law"}, name="Formal", description="Says it well"
    )
    yield made["assistant_id"]
    with suppress(NotFoundError):  # the test may have deleted it
        await sdk.assistants.delete(made["assistant_id"])


async def test_an_assistant_is_made_with_what_its_client_gives(sdk: LangGraphClient, formal: str) -> None:
    found: Any = await sdk.assistants.get(formal)
    assert (found["assistant_id"], found["graph_id"], found["name"]) == (formal, AGENT, "Formal")
    assert (found["context"], found["metadata"]) == ({"tone": "formal"}, {"team": "law"})
    assert (found["version"], found["description"]) == (1, "Says it well")


async def test_an_assistant_without_a_name_is_untitled(sdk: LangGraphClient) -> None:
    made: Any = await sdk.assistants.create(AGENT)
    assert (made["name"], made["config"], made["context"], made["metadata"]) == ("Untitled", {}, {}, {})
    await sdk.assistants.delete(made["assistant_id"])


async def test_an_id_is_taken_once_unless_the_client_says_to_join(sdk: LangGraphClient, formal: str) -> None:
    with pytest.raises(ConflictError):
        await sdk.assistants.create(AGENT, assistant_id=formal)
    with pytest.raises(ConflictError):
        await sdk.assistants.create(AGENT, assistant_id=ASSISTANT)
    joined = await sdk.assistants.create(AGENT, assistant_id=formal, if_exists="do_nothing", name="Another")
    assert joined["name"] == "Formal"
    own = await sdk.assistants.create(AGENT, assistant_id=ASSISTANT, if_exists="do_nothing", name="Another")
    assert (own["assistant_id"], own["name"]) == (ASSISTANT, AGENT)


async def test_what_is_no_assistant_is_refused(http: httpx.AsyncClient) -> None:
    bad: list[tuple[dict[str, Any], set[int]]] = [
        ({}, {422}),
        ({"graph_id": "nope"}, {404, 422}),
        ({"graph_id": AGENT, "assistant_id": "no-uuid"}, {422}),
        ({"graph_id": AGENT, "if_exists": "replace"}, {422}),
        ({"graph_id": AGENT, "config": {"configurable": {"tone": "a"}}, "context": {"tone": "b"}}, {400}),
    ]
    for body, statuses in bad:
        answer = await http.post("/assistants", json=body)
        assert answer.status_code in statuses, (body, answer.text)
        assert answer.json()["detail"]


async def test_an_update_makes_a_version(sdk: LangGraphClient, formal: str) -> None:
    changed: Any = await sdk.assistants.update(formal, context={"tone": "warm"}, metadata={"more": 1}, name="Warm")
    assert (changed["version"], changed["name"], changed["context"]) == (2, "Warm", {"tone": "warm"})
    assert changed["metadata"] == {"team": "law", "more": 1}
    assert changed["description"] == "Says it well"
    versions = await sdk.assistants.get_versions(formal)
    assert [(each["version"], each["name"], each["context"]) for each in versions] == [
        (2, "Warm", {"tone": "warm"}),
        (1, "Formal", {"tone": "formal"}),
    ]
    assert [each["version"] for each in await sdk.assistants.get_versions(formal, metadata={"more": 1})] == [2]
    assert [each["version"] for each in await sdk.assistants.get_versions(formal, limit=1, offset=1)] == [1]


async def test_a_version_is_chosen_and_the_next_one_goes_on_from_it(sdk: LangGraphClient, formal: str) -> None:
    await sdk.assistants.update(formal, metadata={"more": 1}, name="Second")
    chosen: Any = await sdk.assistants.set_latest(formal, 1)
    assert (chosen["version"], chosen["name"], chosen["metadata"]) == (1, "Formal", {"team": "law"})
    assert (await sdk.assistants.get(formal))["version"] == 1
    third = await sdk.assistants.update(formal, description="From the first")
    assert (third["version"], third["name"]) == (3, "Formal")
    with pytest.raises(NotFoundError):
        await sdk.assistants.set_latest(formal, 99)


async def test_assistants_are_found_counted_sorted_and_picked(sdk: LangGraphClient) -> None:
    mark = {"mark": uuid.uuid4().hex}
    made = [
        await sdk.assistants.create(graph, metadata=mark, name=name)
        for graph, name in ((AGENT, "b"), (COUNTER, "c"), (AGENT, "a"))
    ]
    assert await sdk.assistants.count(metadata=mark) == 3
    assert await sdk.assistants.count(metadata=mark, graph_id=AGENT) == 2
    by_name: Any = await sdk.assistants.search(metadata=mark, sort_by="name", sort_order="asc", select=["name"])
    assert by_name == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    newest = await sdk.assistants.search(metadata=mark)
    assert [each["name"] for each in newest] == ["a", "c", "b"]
    page = await sdk.assistants.search(metadata=mark, limit=2, response_format="object")
    assert (len(page["assistants"]), page["next"]) == (2, "2")
    assert [each["name"] for each in await sdk.assistants.search(metadata=mark, name="A")] == ["a"]
    for each in made:
        await sdk.assistants.delete(each["assistant_id"])
    assert await sdk.assistants.count(metadata=mark) == 0


async def test_the_graph_of_an_assistant_is_drawn_and_described(sdk: LangGraphClient, formal: str) -> None:
    assert {"__start__", "gate"} <= {node["id"] for node in (await sdk.assistants.get_graph(formal))["nodes"]}
    assert (await sdk.assistants.get_schemas(formal))["graph_id"] == AGENT
    assert (await sdk.assistants.get_subgraphs(formal)).keys() == {"child"}


async def test_a_run_takes_the_assistants_context_under_its_own(sdk: LangGraphClient, formal: str, thread: str) -> None:
    values: Any = await sdk.runs.wait(thread, formal, input=question("hello"))
    own: Any = await sdk.runs.wait(thread, formal, input=question("hello"), context={"tone": "mine"})
    plain: Any = await sdk.runs.wait(thread, AGENT, input=question("hello"))
    assert (values["note"], own["note"], plain["note"]) == ("formal", "mine", "plain")
    runs = await sdk.runs.list(thread)
    assert [run["assistant_id"] for run in runs] == [ASSISTANT, formal, formal]
    assert runs[-1]["metadata"]["team"] == "law"  # type: ignore[index]  # it has some
    assert [each["thread_id"] for each in await sdk.threads.search(metadata={"assistant_id": ASSISTANT}, ids=[thread])] == [
        thread
    ]


async def test_configurable_of_an_assistant_reaches_the_context(sdk: LangGraphClient) -> None:
    config: Any = {"configurable": {"tone": "set"}, "tags": ["mine"], "recursion_limit": 20}
    made: Any = await sdk.assistants.create(AGENT, config)
    assert made["config"] == config
    values: Any = await sdk.runs.wait(None, made["assistant_id"], input=question("hello"))
    own: Any = await sdk.runs.wait(None, made["assistant_id"], input=question("hello"), config={"configurable": {"tone": "own"}})
    assert (values["note"], own["note"]) == ("set", "own")
    changed: Any = await sdk.assistants.update(made["assistant_id"], context={"tone": "later"})
    assert changed["context"] == {"tone": "later"}
    later: Any = await sdk.runs.wait(None, made["assistant_id"], input=question("hello"))
    assert later["note"] == "later"
    await sdk.assistants.delete(made["assistant_id"])


async def test_an_assistants_step_limit_holds_unless_the_run_has_its_own(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create(AGENT, {"recursion_limit": 1})
    failed: Any = await sdk.runs.wait(None, made["assistant_id"], input=question("hello"), raise_error=False)
    assert failed["__error__"]["error"] == "GraphRecursionError"
    values: Any = await sdk.runs.wait(None, made["assistant_id"], input=question("hello"), config={"recursion_limit": 20})
    assert values["steps"] == ["gate", "chat"]
    await sdk.assistants.delete(made["assistant_id"])


async def test_a_stateless_stream_takes_a_stored_assistant(sdk: LangGraphClient, formal: str) -> None:
    events = await parts(sdk.runs.stream(None, formal, input=question("hello"), stream_mode="updates"))
    assert named(events, "updates")[0]["gate"]["note"] == "formal"


async def test_a_cron_runs_an_assistant_and_goes_with_it(sdk: LangGraphClient, formal: str) -> None:
    made: Any = await sdk.crons.create(formal, schedule=YEARLY, input=question("hi"))
    assert made["assistant_id"] == formal
    assert [each["cron_id"] for each in await sdk.crons.search(assistant_id=formal)] == [made["cron_id"]]
    await sdk.assistants.delete(formal)
    assert made["cron_id"] not in [each["cron_id"] for each in await sdk.crons.search(limit=100)]


async def test_threads_are_deleted_with_an_assistant_only_where_that_is_asked(sdk: LangGraphClient) -> None:
    for deletes in (False, True):
        made = (await sdk.assistants.create(AGENT))["assistant_id"]
        thread = (await sdk.threads.create())["thread_id"]
        await sdk.runs.wait(thread, made, input=question("hello"))
        await sdk.assistants.delete(made, delete_threads=deletes)
        with pytest.raises(NotFoundError):
            await sdk.assistants.get(made)
        if deletes:
            with pytest.raises(NotFoundError):
                await sdk.threads.get(thread)
        else:
            assert (await sdk.threads.get(thread))["thread_id"] == thread


async def test_an_assistant_that_is_none_is_not_found(sdk: LangGraphClient) -> None:
    for call in (sdk.assistants.update, sdk.assistants.delete, sdk.assistants.get_versions):
        with pytest.raises(NotFoundError):
            await call(str(uuid.uuid4()))
    with pytest.raises(NotFoundError):
        await sdk.assistants.set_latest(str(uuid.uuid4()), 1)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await sdk.runs.wait(None, str(uuid.uuid4()), input=question("hello"))
    assert refused.value.response.status_code in {404, 422}


async def test_the_sync_client_does_the_same(site: Site) -> None:
    def work() -> None:
        with get_sync_client(url=site.url, api_key=None) as sync:
            made: Any = sync.assistants.create(AGENT, context={"tone": "sync"}, name="Sync")
            assistant = made["assistant_id"]
            values: Any = sync.runs.wait(None, assistant, input=question("hello"))
            assert values["note"] == "sync"
            assert sync.assistants.update(assistant, name="Again")["version"] == 2
            assert [each["version"] for each in sync.assistants.get_versions(assistant)] == [2, 1]
            assert sync.assistants.set_latest(assistant, 1)["name"] == "Sync"
            sync.assistants.delete(assistant)
            with pytest.raises(NotFoundError):
                sync.assistants.get(assistant)

    await asyncio.to_thread(work)
