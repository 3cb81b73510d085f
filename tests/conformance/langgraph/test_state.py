import itertools
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError, ConflictError, NotFoundError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, interrupted, question, texts, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_new_thread_has_an_empty_state(sdk: LangGraphClient, thread: str) -> None:
    state = await sdk.threads.get_state(thread)
    assert (state["values"], state["next"], state["tasks"]) == ({}, [], [])
    assert await sdk.threads.get_history(thread) == []


async def test_the_state_after_a_run(sdk: LangGraphClient, thread: str) -> None:
    values = await wait(sdk, thread, "hello")
    state: dict[str, Any] = await sdk.threads.get_state(thread)  # type: ignore[assignment]  # more than the SDK's type
    assert (state["values"], state["next"], state["tasks"], state["interrupts"]) == (values, [], [], [])
    assert values["steps"] == ["gate", "chat"]
    assert state["metadata"]["source"] == "loop"
    assert state["metadata"]["step"] == 2
    checkpoint = state["checkpoint"]
    assert (checkpoint["thread_id"], checkpoint["checkpoint_ns"]) == (thread, "")
    assert state["parent_checkpoint"]["checkpoint_id"] < checkpoint["checkpoint_id"]
    assert state["created_at"]


async def test_fields_of_a_state_are_selected_by_name_and_by_key(sdk: LangGraphClient, thread: str, site: Site) -> None:
    if site.is_reference:
        return  # 0.16.7 gives all of them
    whole: Any = await wait(sdk, thread, "hello")
    state: Any = await sdk.threads.get_state(thread)
    at = state["checkpoint"]
    for where in ({}, {"checkpoint": at}, {"checkpoint_id": at["checkpoint_id"]}):
        found: Any = await sdk.threads.get_state(thread, **where, select=["next", "values.steps", "values.nothing"])
        assert found == {"next": [], "values": {"steps": whole["steps"]}}
    assert await sdk.threads.get_state(thread, select=["values"]) == {"values": whole}
    history: Any = await sdk.threads.get_history(thread, limit=2, select=["values.note", "created_at"])
    assert [each.keys() for each in history] == [{"values", "created_at"}] * 2
    assert history[0]["values"] == {"note": "plain"}


@pytest.mark.parametrize("select", [["nope"], ["next.a"], ["values", "config"]], ids=repr)
async def test_a_field_that_a_state_has_not_is_refused(sdk: LangGraphClient, thread: str, site: Site, select: Any) -> None:
    if site.is_reference:
        return  # likewise
    await wait(sdk, thread, "hello")
    for call in (sdk.threads.get_state, sdk.threads.get_history):
        with pytest.raises(APIStatusError) as refused:
            await call(thread, select=select)
        assert refused.value.response.status_code == 422
        assert refused.value.response.json()["field"] == "select"


async def test_messages_in_the_state_have_the_shape_that_clients_read(sdk: LangGraphClient, thread: str) -> None:
    asked, called, told, answered = (await wait(sdk, thread, "weather please"))["messages"]
    assert (asked["type"], asked["content"]) == ("human", "weather please")
    assert (called["type"], called["tool_calls"][0]["name"], called["tool_calls"][0]["args"]) == (
        "ai",
        "weather",
        {"city": "Paris"},
    )
    assert (told["type"], told["content"]) == ("tool", "It is sunny in Paris.")
    assert told["tool_call_id"] == called["tool_calls"][0]["id"]
    assert (answered["type"], answered["content"]) == ("ai", "It is so.")
    assert answered["usage_metadata"]["output_tokens"] == 3
    assert len({message["id"] for message in (asked, called, told, answered)}) == 4


async def test_the_state_of_a_thread_that_waits(sdk: LangGraphClient, thread: str) -> None:
    (asked,) = await interrupted(sdk, thread)
    state = await sdk.threads.get_state(thread)
    assert state["next"] == ["approve"]
    (task,) = state["tasks"]
    assert (task["name"], task["error"], task["state"]) == ("approve", None, None)
    assert [(each["id"], each["value"]) for each in task["interrupts"]] == [(asked["id"], {"question": "Go on?"})]
    assert [each["id"] for each in state["interrupts"]] == [asked["id"]]


async def test_the_state_after_a_failure_names_the_task(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "fail", raise_error=False)
    state = await sdk.threads.get_state(thread)
    assert state["next"] == ["fail"]
    (task,) = state["tasks"]
    assert task["name"] == "fail"
    assert task["error"]


async def test_an_update_is_as_if_a_node_had_said_it(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    updated = await sdk.threads.update_state(thread, {"note": "changed", "steps": ["mine"]}, as_node="gate")
    state = await sdk.threads.get_state(thread)
    assert updated["checkpoint"]["checkpoint_id"] == state["checkpoint"]["checkpoint_id"]
    assert (state["values"]["note"], state["values"]["steps"]) == ("changed", ["gate", "chat", "mine"])  # type: ignore[call-overload]  # a dict
    assert state["next"] == ["chat"]
    assert state["metadata"]["source"] == "update"  # type: ignore[index]  # it is there


async def test_an_update_of_an_older_state_forks_the_history(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    older = (await sdk.threads.get_history(thread))[1]
    await sdk.threads.update_state(thread, {"note": "forked"}, checkpoint=older["checkpoint"])
    state = await sdk.threads.get_state(thread)
    assert state["parent_checkpoint"]["checkpoint_id"] == older["checkpoint"]["checkpoint_id"]  # type: ignore[index]  # it is there
    assert state["values"]["note"] == "forked"  # type: ignore[call-overload]  # a dict


async def test_a_run_goes_on_from_an_updated_state(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    await sdk.threads.update_state(thread, {"note": "changed"}, as_node="gate")
    values: Any = await sdk.runs.wait(thread, AGENT, input=None)
    assert values["steps"] == ["gate", "chat", "chat"]
    assert values["note"] == "changed"


async def test_a_thread_that_never_ran_takes_an_update_when_its_graph_is_known(sdk: LangGraphClient) -> None:
    thread = (await sdk.threads.create(graph_id=AGENT))["thread_id"]
    await sdk.threads.update_state(thread, question("seed"), as_node="gate")
    assert texts((await sdk.threads.get_state(thread))["values"]) == ["seed"]


async def test_an_update_as_an_unknown_node_is_refused(sdk: LangGraphClient, thread: str, site: Site) -> None:
    await wait(sdk, thread, "hello")
    with pytest.raises(APIStatusError) as refused:
        await sdk.threads.update_state(thread, {"note": "x"}, as_node="nobody")
    assert refused.value.status_code in ({400, 422, 500} if site.is_reference else {400, 422})


async def test_an_update_while_the_thread_runs_is_a_conflict(sdk: LangGraphClient, thread: str) -> None:
    run = await sdk.runs.create(thread, AGENT, input=question("slow 100"))
    with pytest.raises(ConflictError):
        await sdk.threads.update_state(thread, {"note": "x"}, as_node="gate")
    await sdk.runs.cancel(thread, run["run_id"], wait=True)


async def test_an_older_state_is_found_by_its_checkpoint(sdk: LangGraphClient, http: httpx.AsyncClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    older = (await sdk.threads.get_history(thread))[1]
    assert await sdk.threads.get_state(thread, checkpoint=older["checkpoint"]) == older
    by_path = await http.get(f"/threads/{thread}/state/{older['checkpoint']['checkpoint_id']}")
    assert by_path.json()["checkpoint"].items() <= older["checkpoint"].items()
    assert by_path.json()["values"] == older["values"]
    assert older["next"] == ["chat"]


async def test_history_is_newest_first_and_chained(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    history = await sdk.threads.get_history(thread)
    assert [state["metadata"]["step"] for state in history] == [2, 1, 0, -1]  # type: ignore[index]  # it is there
    for state, parent in itertools.pairwise(history):
        assert state["parent_checkpoint"]["checkpoint_id"] == parent["checkpoint"]["checkpoint_id"]  # type: ignore[index]  # it is there
    assert history[-1]["parent_checkpoint"] is None
    assert len(await sdk.threads.get_history(thread, limit=2)) == 2


@pytest.mark.parametrize("form", ["config", "checkpoint", "string"])
async def test_history_before_a_checkpoint(
    http: httpx.AsyncClient, sdk: LangGraphClient, thread: str, site: Site, form: str
) -> None:
    """JavaScript sends a config, Python a checkpoint or a string; the reference takes the first only."""
    await wait(sdk, thread, "hello")
    history = await sdk.threads.get_history(thread)
    checkpoint = history[1]["checkpoint"]
    forms = {
        "config": {"configurable": checkpoint},
        "checkpoint": checkpoint,
        "string": checkpoint["checkpoint_id"],
    }
    if site.is_reference and form != "config":
        with pytest.raises(APIStatusError):
            await sdk.threads.get_history(thread, before=forms[form])  # type: ignore[arg-type]  # one of the three
        return
    found = (await http.post(f"/threads/{thread}/history", json={"limit": 10, "before": forms[form]})).json()
    assert found == history[2:]


async def test_history_by_metadata(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    (found,) = await sdk.threads.get_history(thread, metadata={"step": 1})
    assert found["next"] == ["chat"]


async def test_history_by_query(http: httpx.AsyncClient, sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    assert len((await http.get(f"/threads/{thread}/history", params={"limit": 2})).json()) == 2


async def test_a_subgraph_that_waits_has_a_state_of_its_own(sdk: LangGraphClient, thread: str) -> None:
    await interrupted(sdk, thread, "child ask")
    (plain,) = (await sdk.threads.get_state(thread))["tasks"]
    assert plain["state"] is None
    assert plain["checkpoint"]["checkpoint_ns"].startswith("child:")  # type: ignore[index]  # it is there
    (deep,) = (await sdk.threads.get_state(thread, subgraphs=True))["tasks"]
    assert deep["state"]["next"] == ["ask"]  # type: ignore[index]  # it is there
    assert deep["state"]["checkpoint"]["checkpoint_ns"] == plain["checkpoint"]["checkpoint_ns"]  # type: ignore[index]  # it is there


async def test_a_subgraphs_state_and_history_are_found_by_namespace(sdk: LangGraphClient, thread: str) -> None:
    await interrupted(sdk, thread, "child ask")
    (task,) = (await sdk.threads.get_state(thread))["tasks"]
    state = await sdk.threads.get_state(thread, checkpoint=task["checkpoint"])
    assert state["next"] == ["ask"]
    history = await sdk.threads.get_history(thread, checkpoint=task["checkpoint"])
    assert [each["next"] for each in history] == [["ask"], ["think"], ["__start__"]]


async def test_the_state_at_an_unknown_checkpoint_is_not_found(sdk: LangGraphClient, thread: str, site: Site) -> None:
    await wait(sdk, thread, "hello")
    at: Any = {"checkpoint_id": str(uuid.uuid4())}
    if site.is_reference:  # it shows an empty state
        assert (await sdk.threads.get_state(thread, checkpoint=at))["values"] == {}
        return
    with pytest.raises(NotFoundError):
        await sdk.threads.get_state(thread, checkpoint=at)
