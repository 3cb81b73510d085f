import asyncio
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, ASSISTANT, interrupted, texts, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def mark() -> dict[str, str]:
    """Metadata that no other thread has."""
    return {"mark": uuid.uuid4().hex}


async def test_a_new_thread_is_idle_and_empty(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create(metadata={"who": "me"})
    assert str(uuid.UUID(thread["thread_id"])) == thread["thread_id"]
    assert (thread["status"], thread["values"]) == ("idle", None)
    assert thread["metadata"] == {"who": "me"}
    assert thread["created_at"] <= thread["updated_at"]
    assert thread.items() <= (await sdk.threads.get(thread["thread_id"])).items()


async def test_the_client_may_choose_the_id(sdk: LangGraphClient) -> None:
    chosen = str(uuid.uuid4())
    assert (await sdk.threads.create(thread_id=chosen))["thread_id"] == chosen


async def test_an_id_that_exists_is_a_conflict_unless_the_caller_says_otherwise(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create(metadata={"first": True})
    with pytest.raises(ConflictError):
        await sdk.threads.create(thread_id=thread["thread_id"])
    with pytest.raises(ConflictError):
        await sdk.threads.create(thread_id=thread["thread_id"], if_exists="raise")
    same = await sdk.threads.create(thread_id=thread["thread_id"], if_exists="do_nothing", metadata={"second": True})
    assert same["metadata"] == {"first": True}


STEPS: Any = [
    {"updates": [{"values": {"messages": [{"type": "human", "content": "from elsewhere", "id": "m1"}]}, "as_node": "__start__"}]},
    {"updates": [{"values": {"steps": ["gate"], "note": "old"}, "as_node": "gate"}]},
    {"updates": [{"values": {"messages": [{"type": "ai", "content": "it was"}], "steps": ["chat"]}, "as_node": "chat"}]},
]


async def test_a_thread_is_made_with_a_history_from_elsewhere_and_goes_on_from_it(sdk: LangGraphClient) -> None:
    thread = (await sdk.threads.create(graph_id=AGENT, supersteps=STEPS))["thread_id"]
    state: Any = await sdk.threads.get_state(thread)
    assert (texts(state["values"]), state["values"]["steps"], state["next"]) == (
        ["from elsewhere", "it was"],
        ["gate", "chat"],
        [],
    )
    history = await sdk.threads.get_history(thread)
    assert [len(each["values"].get("steps", [])) for each in history] == [2, 1, 0]  # type: ignore[union-attr]  # its values
    values: Any = await wait(sdk, thread, "and now?")
    assert texts(values) == ["from elsewhere", "it was", "and now?", "It is so."]


async def test_a_history_may_hold_commands(sdk: LangGraphClient) -> None:
    steps: Any = [
        {"updates": [{"values": None, "command": {"update": {"note": "by command"}, "goto": "chat"}, "as_node": "gate"}]}
    ]
    state: Any = await sdk.threads.get_state((await sdk.threads.create(graph_id=AGENT, supersteps=steps))["thread_id"])
    assert (state["values"]["note"], "chat" in state["next"]) == ("by command", True)


async def test_a_thread_that_is_there_is_joined_without_the_history(sdk: LangGraphClient) -> None:
    there = (await sdk.threads.create(graph_id=AGENT))["thread_id"]
    joined = await sdk.threads.create(thread_id=there, graph_id=AGENT, supersteps=STEPS, if_exists="do_nothing")
    assert joined["thread_id"] == there


@pytest.mark.parametrize(
    ("graph", "steps"),
    [
        (None, STEPS),
        (AGENT, [{"updates": [{"values": {}, "as_node": "nobody"}]}]),
        (AGENT, [{"updates": [{"values": {"messages": 5}, "as_node": "gate"}]}]),
        (AGENT, [{"updates": []}]),
        (AGENT, [{"updates": [{"values": {"note": "a"}, "command": {"goto": "chat"}, "as_node": "gate"}]}]),
    ],
    ids=["no graph", "no such node", "no such values", "no update", "both"],
)
async def test_a_history_that_the_graph_does_not_take_makes_no_thread(
    sdk: LangGraphClient, site: Site, graph: str | None, steps: Any
) -> None:
    if site.is_reference:
        return  # it makes the thread, and says so with 201
    chosen = str(uuid.uuid4())
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await sdk.threads.create(thread_id=chosen, graph_id=graph, supersteps=steps)
    answer = refused.value.response
    assert (answer.status_code, answer.json()["field"].partition(".")[0]) == (422, "supersteps")
    with pytest.raises(NotFoundError):
        await sdk.threads.get(chosen)


async def test_an_id_that_is_no_uuid_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.post("/threads", json={"thread_id": "mine"})).status_code == 422
    assert (await http.get("/threads/mine")).status_code == 422


async def test_graph_id_may_be_said_at_the_start(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create(graph_id=AGENT)
    assert thread["metadata"] == {"graph_id": AGENT}


async def test_metadata_is_merged(sdk: LangGraphClient) -> None:
    thread = (await sdk.threads.create(metadata={"a": 1, "b": 1}))["thread_id"]
    assert (await sdk.threads.update(thread, metadata={"b": 2, "c": 3}))["metadata"] == {"a": 1, "b": 2, "c": 3}
    assert (await sdk.threads.get(thread))["metadata"] == {"a": 1, "b": 2, "c": 3}


async def test_who_wants_nothing_back_gets_nothing(sdk: LangGraphClient, http: httpx.AsyncClient, thread: str) -> None:
    response = await http.patch(f"/threads/{thread}", json={"metadata": {"a": 1}}, headers={"Prefer": "return=minimal"})
    assert (response.status_code, response.content) == (204, b"")
    await sdk.threads.update(thread, metadata={"b": 2}, return_minimal=True)
    assert (await sdk.threads.get(thread))["metadata"] == {"a": 1, "b": 2}


async def test_a_deleted_thread_is_gone(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    await sdk.threads.delete(thread)
    for call in (sdk.threads.get, sdk.threads.get_state, sdk.threads.delete, sdk.threads.get_history, sdk.runs.list):
        with pytest.raises(NotFoundError):
            await call(thread)


async def test_deletion_says_nothing(http: httpx.AsyncClient, thread: str) -> None:
    response = await http.delete(f"/threads/{thread}")
    assert (response.status_code, response.content) == (204, b"")


async def test_unknown_threads_are_not_found(sdk: LangGraphClient, site: Site) -> None:
    unknown = str(uuid.uuid4())
    for call in (sdk.threads.get, sdk.threads.get_state, sdk.threads.get_history, sdk.threads.delete):
        with pytest.raises(NotFoundError):
            await call(unknown)
    with pytest.raises(ConflictError if site.is_reference else NotFoundError):
        await sdk.threads.copy(unknown)
    with pytest.raises(NotFoundError):
        await sdk.threads.update(unknown, metadata={})


async def test_a_run_leaves_its_graph_and_assistant_with_the_thread(sdk: LangGraphClient, thread: str) -> None:
    """Agent Chat UI lists threads by either."""
    await wait(sdk, thread, "hello")
    assert {"graph_id": AGENT, "assistant_id": ASSISTANT}.items() <= ((await sdk.threads.get(thread))["metadata"] or {}).items()
    for metadata in ({"graph_id": AGENT}, {"assistant_id": ASSISTANT}):
        assert thread in [each["thread_id"] for each in await sdk.threads.search(metadata=metadata, limit=1)]


async def test_a_thread_has_the_values_of_its_last_state(sdk: LangGraphClient, thread: str) -> None:
    values = await wait(sdk, thread, "hello")
    found = await sdk.threads.get(thread)
    assert (found["status"], found["values"]) == ("idle", values)
    assert texts(found["values"]) == ["hello", "It is so."]


async def test_a_thread_that_waits_says_for_what(sdk: LangGraphClient, thread: str) -> None:
    (asked,) = await interrupted(sdk, thread)
    found = await sdk.threads.get(thread)
    assert found["status"] == "interrupted"
    ((waiting,),) = found["interrupts"].values()
    assert (waiting["id"], waiting["value"]) == (asked["id"], {"question": "Go on?"})


async def test_a_thread_whose_run_failed_says_error(sdk: LangGraphClient, thread: str) -> None:
    await sdk.runs.wait(thread, AGENT, input={"messages": "fail"}, raise_error=False)
    found: dict[str, Any] = await sdk.threads.get(thread)  # type: ignore[assignment]  # `error` is not in the SDK's type
    assert found["status"] == "error"
    assert found["error"]["error"]
    assert isinstance(found["error"]["message"], str)


async def test_a_thread_is_busy_while_it_runs(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input={"messages": "slow 100"})
    assert (await sdk.threads.get(thread))["status"] == "busy"
    assert thread in [each["thread_id"] for each in await sdk.threads.search(status="busy", limit=100)]
    await sdk.runs.cancel(thread, run["run_id"], wait=True)
    assert (await sdk.threads.get(thread))["status"] != "busy"


async def test_threads_are_found_by_metadata(sdk: LangGraphClient, mark: dict[str, str]) -> None:
    thread = await sdk.threads.create(metadata={**mark, "more": {"deep": [1]}})
    await sdk.threads.create(metadata={"mark": "another"})
    for metadata in (mark, {**mark, "more": {"deep": [1]}}):
        assert [each["thread_id"] for each in await sdk.threads.search(metadata=metadata)] == [thread["thread_id"]]
    assert await sdk.threads.search(metadata={**mark, "more": {"deep": [2]}}) == []


async def test_threads_are_found_by_id_and_status(sdk: LangGraphClient, mark: dict[str, str]) -> None:
    ids = [(await sdk.threads.create(metadata=mark))["thread_id"] for _ in range(3)]
    assert {each["thread_id"] for each in await sdk.threads.search(ids=ids[:2])} == set(ids[:2])
    await interrupted(sdk, ids[0])
    assert [each["thread_id"] for each in await sdk.threads.search(metadata=mark, status="interrupted")] == ids[:1]
    assert {each["thread_id"] for each in await sdk.threads.search(metadata=mark, status="idle")} == set(ids[1:])


async def test_threads_come_newest_first_in_pages_and_in_the_order_asked_for(sdk: LangGraphClient, mark: dict[str, str]) -> None:
    ids = [(await sdk.threads.create(metadata=mark))["thread_id"] for _ in range(4)]

    async def found(**options: Any) -> list[str]:
        return [each["thread_id"] for each in await sdk.threads.search(metadata=mark, **options)]

    assert await found() == ids[::-1]
    assert await found(limit=2) == ids[:1:-1]
    assert await found(limit=2, offset=2) == ids[1::-1]
    assert await found(sort_by="created_at", sort_order="asc") == ids
    assert await found(sort_by="thread_id", sort_order="asc") == sorted(ids)
    await sdk.threads.update(ids[0], metadata={"touched": True})
    assert (await found(sort_by="updated_at", sort_order="desc"))[0] == ids[0]


async def test_more_pages_are_told_in_a_header(http: httpx.AsyncClient, sdk: LangGraphClient, mark: dict[str, str]) -> None:
    for _ in range(3):
        await sdk.threads.create(metadata=mark)
    first = await http.post("/threads/search", json={"metadata": mark, "limit": 2})
    last = await http.post("/threads/search", json={"metadata": mark, "limit": 2, "offset": 2})
    assert first.headers["x-pagination-next"] == "2"
    assert "x-pagination-next" not in last.headers


async def test_a_search_gives_the_fields_that_are_selected(sdk: LangGraphClient, mark: dict[str, str]) -> None:
    await sdk.threads.create(metadata=mark)
    (found,) = await sdk.threads.search(metadata=mark, select=["thread_id", "status"])
    assert found.keys() == {"thread_id", "status"}


async def test_a_search_gives_values_for_titles(sdk: LangGraphClient, mark: dict[str, str]) -> None:
    thread = (await sdk.threads.create(metadata=mark))["thread_id"]
    await wait(sdk, thread, "my title")
    (found,) = await sdk.threads.search(metadata=mark)
    assert texts(found["values"])[0] == "my title"


async def test_threads_are_counted(sdk: LangGraphClient, mark: dict[str, str]) -> None:
    await asyncio.gather(*(sdk.threads.create(metadata=mark) for _ in range(3)))
    assert await sdk.threads.count(metadata=mark) == 3
    assert await sdk.threads.count(metadata=mark, status="busy") == 0


async def test_a_copy_has_the_state_and_goes_on_by_itself(sdk: LangGraphClient, http: httpx.AsyncClient, thread: str) -> None:
    await wait(sdk, thread, "first")
    copy = (await http.post(f"/threads/{thread}/copy")).json()["thread_id"]
    assert copy != thread
    before = await sdk.threads.get_state(thread)
    assert (await sdk.threads.get_state(copy))["values"] == before["values"]
    assert len(await sdk.threads.get_history(copy)) == len(await sdk.threads.get_history(thread))
    assert texts(await wait(sdk, copy, "second"))[0::2] == ["first", "second"]
    assert (await sdk.threads.get_state(thread))["values"] == before["values"]
