"""Runs beyond their stream: to wait for, join, list, cancel and delete."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, ASSISTANT, first, named, parts, question, texts, until, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_wait_gives_the_values_of_the_end(sdk: LangGraphClient, thread: str) -> None:
    values = await wait(sdk, thread, "hello")
    assert texts(values) == ["hello", "It is so."]
    assert (values["note"], values["steps"]) == ("plain", ["gate", "chat"])


async def test_wait_gives_what_the_graph_asks(sdk: LangGraphClient, thread: str) -> None:
    values = await wait(sdk, thread, "approve")
    assert [each["value"] for each in values["__interrupt__"]] == [{"question": "Go on?"}]
    assert texts(values) == ["approve"]


async def test_wait_raises_what_failed(sdk: LangGraphClient, thread: str) -> None:
    with pytest.raises(Exception, match=": "):
        await wait(sdk, thread, "fail")
    values = await wait(sdk, thread, "fail", raise_error=False)
    assert values["__error__"].keys() >= {"error", "message"}


async def test_wait_tells_where_to_come_back(http: httpx.AsyncClient, thread: str) -> None:
    response = await http.post(f"/threads/{thread}/runs/wait", json={"assistant_id": AGENT, "input": question("hello")})
    run = response.headers["content-location"].removeprefix(f"/threads/{thread}/runs/")
    assert response.headers["location"] == f"/threads/{thread}/runs/{run}/join"
    assert (await http.get(response.headers["location"])).json() == response.json()


async def test_a_thread_remembers(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "first")
    assert texts(await wait(sdk, thread, "second")) == ["first", "It is so.", "second", "It is so."]


async def test_a_run_in_the_background_is_there_at_once_and_ends(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("hello"), metadata={"m": 1})
    assert (run["thread_id"], run["assistant_id"]) == (thread, ASSISTANT)
    assert run["status"] in {"pending", "running"}
    assert run["metadata"]["m"] == 1  # type: ignore[index]  # it is there
    assert run["multitask_strategy"] == "enqueue"
    assert texts(await sdk.runs.join(thread, run["run_id"])) == ["hello", "It is so."]
    assert (await sdk.runs.get(thread, run["run_id"]))["status"] == "success"


async def test_a_created_run_tells_its_place(http: httpx.AsyncClient, thread: str) -> None:
    response = await http.post(f"/threads/{thread}/runs", json={"assistant_id": AGENT, "input": question("hello")})
    assert response.status_code == 200
    assert response.headers["content-location"] == f"/threads/{thread}/runs/{response.json()['run_id']}"


async def test_the_sdk_learns_the_run_from_the_headers(sdk: LangGraphClient, thread: str) -> None:
    seen: list[Any] = []
    await parts(sdk.runs.stream(thread, AGENT, input=question("hello"), on_run_created=seen.append))
    await wait(sdk, thread, "again", on_run_created=seen.append)
    runs = await sdk.runs.list(thread)
    assert [each["run_id"] for each in seen[::-1]] == [run["run_id"] for run in runs]
    assert {each["thread_id"] for each in seen} == {thread}


async def test_runs_are_listed_newest_first_in_pages_and_by_status(sdk: LangGraphClient, thread: str) -> None:
    for text in ("one", "two", "fail"):
        await wait(sdk, thread, text, raise_error=False)
    runs = await sdk.runs.list(thread)
    assert [run["status"] for run in runs] == ["error", "success", "success"]
    assert [run["run_id"] for run in await sdk.runs.list(thread, limit=1, offset=1)] == [runs[1]["run_id"]]
    assert [run["run_id"] for run in await sdk.runs.list(thread, status="error")] == [runs[0]["run_id"]]


async def test_unknown_runs_are_not_found(sdk: LangGraphClient, thread: str, site: Site) -> None:
    unknown = str(uuid.uuid4())
    for call in (sdk.runs.get, sdk.runs.cancel, sdk.runs.delete):
        with pytest.raises(NotFoundError):
            await call(thread, unknown)
    if not site.is_reference:  # it answers with the thread's values
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await sdk.runs.join(thread, unknown)


async def test_a_run_of_another_thread_is_not_found(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    (run,) = await sdk.runs.list(thread)
    another = (await sdk.threads.create())["thread_id"]
    with pytest.raises(NotFoundError):
        await sdk.runs.get(another, run["run_id"])


async def test_a_deleted_run_is_gone(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    (run,) = await sdk.runs.list(thread)
    await sdk.runs.delete(thread, run["run_id"])
    assert await sdk.runs.list(thread) == []


async def test_who_joins_a_running_stream_hears_the_rest(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("slow 30"), stream_mode=["custom", "values"])
    events = await parts(sdk.runs.join_stream(thread, run["run_id"]))
    assert named(events, "custom")[-1] == {"tick": 29}
    assert texts(named(events, "values")[-1]) == ["slow 30", "slept"]


async def test_who_joins_with_the_last_event_id_misses_and_doubles_nothing(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("slow 20"), stream_mode="custom", stream_resumable=True)
    heard = await until(sdk.runs.join_stream(thread, run["run_id"], last_event_id="-1"), lambda part: part.data == {"tick": 5})
    assert heard[-1].id
    rest = await parts(sdk.runs.join_stream(thread, run["run_id"], last_event_id=heard[-1].id))
    assert named([*heard, *rest], "custom") == [{"tick": number} for number in range(20)]


async def test_a_whole_run_is_replayed_after_its_end(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("write"), stream_mode="custom", stream_resumable=True)
    await sdk.runs.join(thread, run["run_id"])
    events = await parts(sdk.runs.join_stream(thread, run["run_id"], last_event_id="-1"))
    assert named(events, "custom") == [{"done": 1}, {"done": 2}]
    assert events[0].event == "metadata"


async def test_a_join_may_pick_modes(sdk: LangGraphClient, thread: str, site: Site) -> None:
    run = await sdk.runs.create(
        thread, AGENT, input=question("write"), stream_mode=["custom", "updates", "values"], stream_resumable=True
    )
    await sdk.runs.join(thread, run["run_id"])
    one: list[Any] = ["custom"]
    for modes in [one] if site.is_reference else [one, [*one, "updates"]]:  # of two the reference takes the last
        events = await parts(sdk.runs.join_stream(thread, run["run_id"], stream_mode=modes, last_event_id="-1"))
        assert {part.event for part in events} >= {"custom"}
        assert {part.event for part in events} <= {"metadata", *modes}
        assert len(named(events, "custom")) == 2


async def test_a_cancelled_run_leaves_an_interrupted_thread(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("slow 200"), stream_mode="custom")
    await first(sdk.runs.join_stream(thread, run["run_id"]), "custom")
    await sdk.runs.cancel(thread, run["run_id"], wait=True, action="interrupt")
    assert (await sdk.runs.get(thread, run["run_id"]))["status"] == "interrupted"
    assert (await sdk.threads.get(thread))["status"] == "interrupted"
    assert (await sdk.threads.get_state(thread))["next"] == ["slow"]


async def test_a_rolled_back_run_was_never_there(sdk: LangGraphClient, thread: str) -> None:
    before = await wait(sdk, thread, "hello")
    run = await sdk.runs.create(thread, AGENT, input=question("slow 200"), stream_mode="custom")
    await first(sdk.runs.join_stream(thread, run["run_id"]), "custom")
    await sdk.runs.cancel(thread, run["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread, run["run_id"])
    state = await sdk.threads.get_state(thread)
    assert (state["values"], state["next"]) == (before, [])
    assert (await sdk.threads.get(thread))["status"] == "idle"


async def test_a_cancellation_need_not_be_waited_for(http: httpx.AsyncClient, sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("slow 200"))
    response = await http.post(f"/threads/{thread}/runs/{run['run_id']}/cancel", params={"wait": "0"})
    assert response.status_code == 202
    await sdk.runs.join(thread, run["run_id"])
    assert (await sdk.runs.get(thread, run["run_id"]))["status"] == "interrupted"


async def test_what_ended_cannot_be_cancelled(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    (run,) = await sdk.runs.list(thread)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await sdk.runs.cancel(thread, run["run_id"], wait=True)
    assert refused.value.response.status_code in {404, 409}


async def test_the_stream_of_a_cancelled_run_ends_without_an_error(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("slow 200"), stream_mode="custom")
    events: list[str] = []
    async for part in sdk.runs.join_stream(thread, run["run_id"]):
        if part.event == "custom" and "custom" not in events:
            await sdk.runs.cancel(thread, run["run_id"])
        events.append(part.event)
    assert "error" not in events


async def test_many_runs_are_cancelled_at_once(sdk: LangGraphClient) -> None:
    thread = (await sdk.threads.create())["thread_id"]
    runs = [await sdk.runs.create(thread, AGENT, input=question("slow 200")) for _ in range(2)]
    await sdk.runs.cancel_many(thread_id=thread, run_ids=[run["run_id"] for run in runs])
    for run in runs:
        await sdk.runs.join(thread, run["run_id"])
        assert (await sdk.runs.get(thread, run["run_id"]))["status"] == "interrupted"


async def test_a_thread_is_deleted_with_what_runs_on_it(sdk: LangGraphClient, thread: str) -> None:
    await sdk.runs.create(thread, AGENT, input=question("slow 200"))
    await sdk.threads.delete(thread)
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread)


async def test_threads_run_beside_each_other(sdk: LangGraphClient) -> None:
    threads = [(await sdk.threads.create())["thread_id"] for _ in range(5)]
    every = await asyncio.gather(*(wait(sdk, thread, f"hello {number}") for number, thread in enumerate(threads)))
    assert [texts(values)[0] for values in every] == [f"hello {number}" for number in range(5)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"assistant_id": "nope", "input": {}}, {404, 422}),
        ({"assistant_id": str(uuid.uuid4()), "input": {}}, {404, 422}),
        ({"input": {}}, {422}),
        ({"assistant_id": AGENT, "input": {}, "multitask_strategy": "nope"}, {422}),
        ({"assistant_id": AGENT, "input": {}, "on_disconnect": "nope"}, {422}),
        ({"assistant_id": AGENT, "input": {}, "if_not_exists": "nope"}, {422}),
        ({"assistant_id": AGENT, "input": {}, "config": {"configurable": {"tone": "a"}}, "context": {"tone": "b"}}, {400}),
    ],
    ids=["assistant", "assistant-id", "no-assistant", "multitask", "disconnect", "exists", "both"],
)
async def test_a_body_that_is_wrong_is_refused_in_words(
    http: httpx.AsyncClient, thread: str, site: Site, body: dict[str, Any], status: set[int]
) -> None:
    """The reference looks at less where it does not stream."""
    others = [f"/threads/{thread}/runs/wait", f"/threads/{thread}/runs", "/runs/wait", "/runs/stream", "/runs"]
    for path in (f"/threads/{thread}/runs/stream", *([] if site.is_reference else others)):
        response = await http.post(path, json=body)
        assert response.status_code in status, response.text
        assert isinstance(response.json()["detail"], str)
    assert (await http.get(f"/threads/{thread}/runs")).json() == []


async def test_an_assistant_that_is_none_is_named(http: httpx.AsyncClient, thread: str) -> None:
    """Agent Chat UI looks for the words."""
    response = await http.post(f"/threads/{thread}/runs/stream", json={"assistant_id": "nope", "input": {}})
    assert "Invalid assistant" in response.json()["detail"]


async def test_json_that_is_none_is_refused(http: httpx.AsyncClient, thread: str) -> None:
    response = await http.post(f"/threads/{thread}/runs/wait", content=b"{oops", headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert response.json()["detail"]
