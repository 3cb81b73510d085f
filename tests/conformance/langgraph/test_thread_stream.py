"""One stream of all runs of a thread: `threads.join_stream`."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamPart

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, named, question, texts, until, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN_SECONDS = 0.5
"""In which a stream is open before what it is to hear begins: the reference tells of nothing before."""


def done(part: StreamPart) -> bool:
    return part.event == "metadata" and part.data.get("status") == "run_done"


async def heard(sdk: LangGraphClient, thread: str, ask: str, **options: Any) -> list[StreamPart]:
    """What one stream says of a run that begins meanwhile."""
    listening = asyncio.ensure_future(until(await sdk.threads.join_stream(thread, **options), done))
    await asyncio.sleep(OPEN_SECONDS)
    await sdk.runs.create(thread, AGENT, input=question(ask), stream_mode=["values", "updates"], stream_resumable=True)
    async with asyncio.timeout(20):
        return await listening


async def test_it_tells_of_a_run_that_begins_and_of_none_before(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "before")
    events = await heard(sdk, thread, "hello")
    run = (await sdk.runs.list(thread))[0]["run_id"]
    assert events[0].event == "metadata"
    assert events[0].data["run_id"] == run
    assert events[-1].data == {"status": "run_done", "run_id": run}
    assert texts(named(events, "values")[-1])[-2:] == ["hello", "It is so."]
    assert [next(iter(update)) for update in named(events, "updates")] == ["gate", "chat"]


async def test_it_goes_on_from_run_to_run_and_after_the_last_id(sdk: LangGraphClient, thread: str, site: Site) -> None:
    events = await heard(sdk, thread, "one")
    two = await sdk.runs.create(thread, AGENT, input=question("two"), stream_resumable=True)
    await sdk.runs.join(thread, two["run_id"])
    later = await until(await sdk.threads.join_stream(thread, last_event_id=events[-1].id), done)
    runs = [run["run_id"] for run in await sdk.runs.list(thread)]
    assert [part.data["run_id"] for part in later if part.event == "metadata"] == [runs[0]] * 2
    assert texts(named(later, "values")[-1]) == ["one", "It is so.", "two", "It is so."]
    first = next(part for part in events if part.event == "updates")
    rest = await until(await sdk.threads.join_stream(thread, last_event_id=first.id), done)
    expected = events[events.index(first) + 1 :]
    if site.is_reference:  # two events of its may have one id: a rejoin loses the second
        expected = [part for part in expected if part in rest]
        assert len(expected) > 1
    assert [(part.event, part.data) for part in rest] == [(part.event, part.data) for part in expected]


async def test_a_run_that_fails_does_not_end_it(sdk: LangGraphClient, thread: str) -> None:
    events = await heard(sdk, thread, "fail")
    assert len(named(events, "error")) == 1
    assert done(events[-1])


async def test_its_modes_tell_less(sdk: LangGraphClient, thread: str, site: Site) -> None:
    if site.is_reference:
        pytest.xfail("the reference tells the same in all modes")
    lifecycle = await heard(sdk, thread, "one", stream_mode="lifecycle")
    assert {part.event for part in lifecycle} == {"metadata"}
    state = await heard(sdk, thread, "two", stream_mode="state_update")
    assert {part.event for part in state} == {"metadata", "values", "updates"}


async def test_from_the_first_run_on(sdk: LangGraphClient, thread: str, site: Site) -> None:
    if site.is_reference:
        pytest.xfail("the reference takes the id of an event only")
    await wait(sdk, thread, "one")
    await wait(sdk, thread, "two")
    ended = 0

    def second(part: StreamPart) -> bool:
        nonlocal ended
        ended += done(part)
        return ended == 2

    events = await until(await sdk.threads.join_stream(thread, last_event_id="-1"), second)
    runs = [run["run_id"] for run in await sdk.runs.list(thread)]
    assert [part.data["run_id"] for part in events if done(part)] == runs[::-1]


async def test_what_is_no_thread_mode_or_event_is_refused(http: httpx.AsyncClient, thread: str, site: Site) -> None:
    if site.is_reference:
        pytest.xfail("the reference opens a stream for each of them")
    other = (await http.post("/threads", json={})).json()["thread_id"]
    run = (await http.post(f"/threads/{other}/runs", json={"assistant_id": AGENT, "input": question("hi")})).json()["run_id"]
    for path, headers, status in (
        (f"/threads/{uuid.uuid4()}/stream", {}, 404),
        (f"/threads/{thread}/stream?stream_mode=nope", {}, 422),
        (f"/threads/{thread}/stream", {"Last-Event-ID": "nope"}, 422),
        (f"/threads/{thread}/stream", {"Last-Event-ID": f"{run}-1-1"}, 404),
    ):
        answer = await http.get(path, headers=headers)
        assert (answer.status_code, path) == (status, path)
