"""The SDK's other client: each call of it in a thread, as the server may be in this process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, ASSISTANT, named, question, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def sync(site: Site) -> AsyncIterator[SyncLangGraphClient]:
    with get_sync_client(url=site.url, api_key=None) as client:
        yield client


async def test_a_conversation(sync: SyncLangGraphClient) -> None:
    def talk() -> None:
        thread = sync.threads.create(metadata={"by": "sync"})["thread_id"]
        values: Any = sync.runs.wait(thread, AGENT, input=question("hello"))
        assert texts(values) == ["hello", "It is so."]
        assert sync.threads.get_state(thread)["values"] == values
        assert len(sync.threads.get_history(thread)) == 4
        assert [run["status"] for run in sync.runs.list(thread)] == ["success"]
        sync.threads.delete(thread)
        with pytest.raises(NotFoundError):
            sync.threads.get(thread)

    await asyncio.to_thread(talk)


async def test_a_stream(sync: SyncLangGraphClient) -> None:
    def listen() -> None:
        thread = sync.threads.create()["thread_id"]
        events = list(sync.runs.stream(thread, AGENT, input=question("hello"), stream_mode=["messages-tuple", "values"]))
        assert "".join(chunk["content"] for chunk, _ in named(events, "messages")) == "It is so."
        assert texts(named(events, "values")[-1]) == ["hello", "It is so."]

    await asyncio.to_thread(listen)


async def test_an_interrupt_and_its_answer(sync: SyncLangGraphClient) -> None:
    def decide() -> None:
        thread = sync.threads.create()["thread_id"]
        asked: Any = sync.runs.wait(thread, AGENT, input=question("approve"))
        assert asked["__interrupt__"][0]["value"] == {"question": "Go on?"}
        values: Any = sync.runs.wait(thread, AGENT, command={"resume": "yes"})
        assert values["note"] == "decided: yes"

    await asyncio.to_thread(decide)


async def test_a_run_joined_by_last_event_id(sync: SyncLangGraphClient) -> None:
    def rejoin() -> None:
        thread = sync.threads.create()["thread_id"]
        run = sync.runs.create(thread, AGENT, input=question("write"), stream_mode="custom", stream_resumable=True)["run_id"]
        sync.runs.join(thread, run)
        events = list(sync.runs.join_stream(thread, run, last_event_id="-1"))
        assert named(events, "custom") == [{"done": 1}, {"done": 2}]

    await asyncio.to_thread(rejoin)


async def test_assistants_and_threads_are_searched(sync: SyncLangGraphClient) -> None:
    def search() -> None:
        assert [each["assistant_id"] for each in sync.assistants.search(graph_id=AGENT)] == [ASSISTANT]
        thread = sync.threads.create(graph_id=AGENT)["thread_id"]
        assert sync.threads.search(ids=[thread])[0]["thread_id"] == thread
        assert sync.threads.count() > 0

    await asyncio.to_thread(search)
