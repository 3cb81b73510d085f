"""What else a run may be asked for."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, first, named, parts, question, texts, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def running(sdk: LangGraphClient, thread: str) -> str:
    """The id of a run that has begun, and takes ten seconds."""
    run = await sdk.runs.create(thread, AGENT, input=question("slow 200"), stream_mode="custom", stream_resumable=True)
    await first(sdk.runs.join_stream(thread, run["run_id"], last_event_id="-1"), "custom")
    return run["run_id"]


async def test_reject_refuses_while_a_run_goes_on(sdk: LangGraphClient, thread: str) -> None:
    run = await running(sdk, thread)
    with pytest.raises(ConflictError):
        await sdk.runs.create(thread, AGENT, input=question("second"), multitask_strategy="reject")
    assert [each["run_id"] for each in await sdk.runs.list(thread)] == [run]
    await sdk.runs.cancel(thread, run, wait=True)


async def test_enqueue_waits_for_the_run_before(sdk: LangGraphClient, thread: str) -> None:
    await sdk.runs.create(thread, AGENT, input=question("slow 5"))
    values = await wait(sdk, thread, "second", multitask_strategy="enqueue")
    assert texts(values) == ["slow 5", "slept", "second", "It is so."]


async def test_interrupt_stops_the_run_before_and_keeps_what_it_did(sdk: LangGraphClient, thread: str) -> None:
    run = await running(sdk, thread)
    values = await wait(sdk, thread, "second", multitask_strategy="interrupt")
    assert texts(values) == ["slow 200", "second", "It is so."]
    assert (await sdk.runs.get(thread, run))["status"] == "interrupted"


async def test_rollback_takes_the_run_before_away(sdk: LangGraphClient, thread: str) -> None:
    run = await running(sdk, thread)
    values = await wait(sdk, thread, "second", multitask_strategy="rollback")
    assert texts(values) == ["second", "It is so."]
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread, run)


async def test_a_run_goes_on_when_its_reader_leaves(sdk: LangGraphClient, thread: str) -> None:
    stream = sdk.runs.stream(thread, AGENT, input=question("slow 5"), stream_mode="custom", on_disconnect="continue")
    await first(stream, "custom")
    (run,) = await sdk.runs.list(thread)
    assert texts(await sdk.runs.join(thread, run["run_id"])) == ["slow 5", "slept"]


async def test_a_run_is_cancelled_when_its_reader_leaves_and_said_so(sdk: LangGraphClient, thread: str) -> None:
    stream = sdk.runs.stream(thread, AGENT, input=question("slow 400"), stream_mode="custom", on_disconnect="cancel")
    await first(stream, "custom")
    (run,) = await sdk.runs.list(thread)
    async with asyncio.timeout(15):
        while (await sdk.runs.get(thread, run["run_id"]))["status"] in {"pending", "running"}:
            await asyncio.sleep(0.1)
    assert (await sdk.runs.get(thread, run["run_id"]))["status"] == "interrupted"


async def test_an_unknown_thread_is_refused_or_made_as_asked(sdk: LangGraphClient) -> None:
    unknown = str(uuid.uuid4())
    for options in ({}, {"if_not_exists": "reject"}):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await wait(sdk, unknown, "hello", **options)
        assert refused.value.response.status_code == 404
    assert texts(await wait(sdk, unknown, "hello", if_not_exists="create")) == ["hello", "It is so."]
    assert (await sdk.threads.get(unknown))["thread_id"] == unknown


async def test_a_run_may_begin_later(sdk: LangGraphClient, thread: str) -> None:
    began = time.monotonic()
    run = await sdk.runs.create(thread, AGENT, input=question("hello"), after_seconds=1)
    assert (await sdk.runs.get(thread, run["run_id"]))["status"] == "pending"
    assert texts(await sdk.runs.join(thread, run["run_id"])) == ["hello", "It is so."]
    assert time.monotonic() - began > 0.9


async def test_metadata_of_a_run_stays_with_it_and_reaches_the_graph(sdk: LangGraphClient, thread: str) -> None:
    events = await parts(
        sdk.runs.stream(thread, AGENT, input=question("hello"), stream_mode="messages-tuple", metadata={"who": "me"})
    )
    assert named(events, "messages")[0][1]["who"] == "me"
    (run,) = await sdk.runs.list(thread)
    assert run["metadata"]["who"] == "me"  # type: ignore[index]  # it is there


async def test_context_reaches_the_graph(sdk: LangGraphClient, thread: str) -> None:
    assert (await wait(sdk, thread, "hello", context={"tone": "kind"}))["note"] == "kind"


async def test_configurable_reaches_the_graph_as_context(sdk: LangGraphClient, thread: str) -> None:
    assert (await wait(sdk, thread, "hello", config={"configurable": {"tone": "kind"}}))["note"] == "kind"


async def test_configurable_names_no_other_thread(sdk: LangGraphClient, thread: str) -> None:
    another = (await sdk.threads.create())["thread_id"]
    for name, value in {"thread_id": another, "checkpoint_ns": "x", "__pregel_checkpointer": None}.items():
        try:
            await wait(sdk, thread, "hello", config={"configurable": {name: value}})
        except httpx.HTTPStatusError as refused:
            assert refused.response.status_code in {400, 422}  # noqa: PT017  # refused is fine, too
    assert await sdk.threads.get_history(another) == []


async def test_tags_and_the_recursion_limit_reach_the_graph(sdk: LangGraphClient, thread: str) -> None:
    events = await parts(
        sdk.runs.stream(thread, AGENT, input=question("hello"), stream_mode="messages-tuple", config={"tags": ["t1"]})
    )
    assert "t1" in named(events, "messages")[0][1]["tags"]
    values = await wait(sdk, thread, "hello", config={"recursion_limit": 1}, raise_error=False)
    assert values["__error__"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_any_durability_is_taken(sdk: LangGraphClient, thread: str, durability: Any) -> None:
    values = await wait(sdk, thread, "hello", durability=durability)
    assert (await sdk.threads.get_state(thread))["values"] == values


async def test_keys_that_the_state_does_not_know_are_ignored(sdk: LangGraphClient, thread: str) -> None:
    """Agent Chat UI sends `context` within the input."""
    values: Any = await sdk.runs.wait(thread, AGENT, input={**question("hello"), "context": {"artifact": 1}, "nobody": 2})
    assert values.keys() == {"messages", "note", "steps"}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hello"},
        {"type": "human", "content": "hello"},
        {"type": "human", "content": [{"type": "text", "text": "hello"}], "id": "mine"},
        {"type": "human", "content": "hello", "additional_kwargs": {}, "response_metadata": {}, "name": None},
    ],
    ids=["role", "type", "blocks", "whole"],
)
async def test_messages_come_in_any_form_of_langchain(sdk: LangGraphClient, thread: str, message: dict[str, Any]) -> None:
    values: Any = await sdk.runs.wait(thread, AGENT, input=cast("Any", {"messages": [message]}))
    asked = values["messages"][0]
    assert (asked["type"], asked["content"]) == ("human", message["content"])
    assert asked["id"] == message["id"] if "id" in message else asked["id"]


async def test_feedback_keys_have_an_address_each_that_takes_a_thumb(sdk: LangGraphClient, thread: str, site: Site) -> None:
    events = await parts(sdk.runs.stream(thread, AGENT, input=question("hello"), feedback_keys=["helpful", "kind"]))
    assert texts(named(events, "values")[-1]) == ["hello", "It is so."]
    if site.is_reference:  # it asks LangSmith for addresses, which it cannot reach here
        assert named(events, "error")
        return
    (addresses,) = named(events, "feedback")
    assert addresses.keys() == {"helpful", "kind"}
    assert (await sdk.http.client.post(addresses["helpful"], json={"score": 1, "comment": "it is"})).status_code == 204
    assert (await sdk.http.client.post(addresses["kind"], json={"score": 2})).json()["field"] == "score"


@pytest_asyncio.fixture(loop_scope="session")
async def hook() -> AsyncIterator[tuple[str, asyncio.Queue[dict[str, Any]]]]:
    """An address on loopback, and what was posted to it."""
    posted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        posted.put_nowait(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", posted
    await runner.cleanup()


async def test_a_webhook_hears_of_the_end(
    sdk: LangGraphClient, thread: str, site: Site, hook: tuple[str, asyncio.Queue[dict[str, Any]]]
) -> None:
    url, posted = hook
    if site.is_reference:  # it calls no address of this machine
        with pytest.raises(UnprocessableEntityError):
            await sdk.runs.create(thread, AGENT, input=question("hello"), webhook=url)
        return
    run = await sdk.runs.create(thread, AGENT, input=question("hello"), webhook=url)
    async with asyncio.timeout(20):
        heard = await posted.get()
    assert (heard["run_id"], heard["thread_id"], heard["status"]) == (run["run_id"], thread, "success")
    assert texts(heard["values"]) == ["hello", "It is so."]
