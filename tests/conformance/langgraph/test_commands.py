"""What goes on with a thread that waits, or changes its way."""

from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import UnprocessableEntityError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, interrupted, named, parts, question, texts, wait

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_value_resumes_the_one_question(sdk: LangGraphClient, thread: str) -> None:
    await interrupted(sdk, thread)
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": "yes"})
    assert (values["note"], texts(values)) == ("decided: yes", ["approve", "It is so."])
    assert (await sdk.threads.get(thread))["status"] == "idle"


@pytest.mark.parametrize("answer", [False, 0, "", {"a": [1]}, [{"args": None, "type": "accept"}]], ids=repr)
async def test_any_json_resumes(sdk: LangGraphClient, thread: str, answer: Any) -> None:
    await interrupted(sdk, thread)
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": answer})
    assert values["note"] == f"decided: {answer}"


async def test_a_map_by_id_resumes_several_questions(sdk: LangGraphClient, thread: str) -> None:
    asked = {each["value"]: each["id"] for each in await interrupted(sdk, thread, "both")}
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": {asked["left?"]: "L", asked["right?"]: "R"}})
    assert sorted(values["steps"]) == ["gate", "left: L", "right: R"]


async def test_a_map_may_answer_one_of_two_questions(sdk: LangGraphClient, thread: str) -> None:
    asked = {each["value"]: each["id"] for each in await interrupted(sdk, thread, "both")}
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": {asked["left?"]: "L"}})
    assert [each["value"] for each in values["__interrupt__"]] == ["right?"]
    values = await sdk.runs.wait(thread, AGENT, command={"resume": "R"})
    assert sorted(values["steps"]) == ["gate", "left: L", "right: R"]


async def test_a_resumed_stream_goes_on_where_the_thread_stood(sdk: LangGraphClient, thread: str) -> None:
    await interrupted(sdk, thread)
    events = await parts(sdk.runs.stream(thread, AGENT, command={"resume": "yes"}, stream_mode=["updates", "values"]))
    assert [update.keys() for update in named(events, "updates")] == [{"approve"}, {"chat"}]
    assert texts(named(events, "values")[-1]) == ["approve", "It is so."]


async def test_an_empty_input_beside_a_command_is_none(http: httpx.AsyncClient, sdk: LangGraphClient, thread: str) -> None:
    """Agent Chat UI sends both."""
    await interrupted(sdk, thread)
    body = {"assistant_id": AGENT, "input": {}, "command": {"resume": "yes", "goto": None, "update": None}}
    assert (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()["note"] == "decided: yes"


async def test_a_question_within_a_subgraph_is_answered(sdk: LangGraphClient, thread: str) -> None:
    (asked,) = await interrupted(sdk, thread, "child ask")
    assert asked["value"] == "child asks"
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": {asked["id"]: "fine"}})
    assert values["note"] == "child: fine"


async def test_a_resume_without_a_question_runs_nothing(sdk: LangGraphClient, thread: str) -> None:
    before = await wait(sdk, thread, "hello")
    assert await sdk.runs.wait(thread, AGENT, command={"resume": "yes"}) == before


@pytest.mark.parametrize("answer", ["yes", {"0" * 32: "yes"}], ids=["value", "by id"])
async def test_a_strict_resume_refuses_an_answer_that_nothing_waits_for(
    sdk: LangGraphClient, thread: str, site: Site, answer: Any
) -> None:
    if site.is_reference:
        return  # its runs fail, where it has this at all
    before = await wait(sdk, thread, "hello")
    with pytest.raises(UnprocessableEntityError) as refused:
        await sdk.runs.create(thread, AGENT, command={"resume": answer}, strict_resume=True)
    assert refused.value.response.json()["field"] == "command.resume"
    assert (await sdk.threads.get_state(thread))["values"] == before


async def test_a_strict_resume_takes_answers_to_what_waits_and_no_others(sdk: LangGraphClient, thread: str, site: Site) -> None:
    asked = {each["value"]: each["id"] for each in await interrupted(sdk, thread, "both")}
    if not site.is_reference:
        with pytest.raises(UnprocessableEntityError):
            await sdk.runs.create(thread, AGENT, command={"resume": {asked["left?"]: "L", "0" * 32: "R"}}, strict_resume=True)
    answers = {asked["left?"]: "L", asked["right?"]: "R"}
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": answers}, strict_resume=True)
    assert sorted(values["steps"]) == ["gate", "left: L", "right: R"]


async def test_a_strict_resume_takes_an_answer_that_is_an_object(sdk: LangGraphClient, thread: str) -> None:
    await interrupted(sdk, thread)
    values: Any = await sdk.runs.wait(thread, AGENT, command={"resume": {"a": 1}}, strict_resume=True)
    assert values["note"] == "decided: {'a': 1}"


async def test_a_new_question_goes_on_without_an_answer_to_the_old(sdk: LangGraphClient, thread: str) -> None:
    await interrupted(sdk, thread)
    values = await wait(sdk, thread, "never mind")
    assert (texts(values), values["note"]) == (["approve", "never mind", "It is so."], "plain")


async def test_update_and_goto_change_state_and_way(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    values: Any = await sdk.runs.wait(thread, AGENT, command={"update": {"note": "mine"}, "goto": "chat"})
    assert (values["note"], values["steps"]) == ("mine", ["gate", "chat", "chat"])


async def test_goto_the_end_changes_no_values(sdk: LangGraphClient, thread: str) -> None:
    """Agent Chat UI and deep-agents-ui send it to mark a question as resolved."""
    await interrupted(sdk, thread)
    before = (await sdk.threads.get_state(thread))["values"]
    await sdk.runs.wait(thread, AGENT, command={"goto": "__end__"})
    assert (await sdk.threads.get_state(thread))["values"] == before


async def test_goto_may_send_an_input_to_a_node(http: httpx.AsyncClient, sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "hello")
    body = {"assistant_id": AGENT, "command": {"goto": [{"node": "chat", "input": question("sent")}]}}
    values = (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()
    assert values["steps"] == ["gate", "chat", "chat"]


@pytest.mark.parametrize("nodes", [["chat"], "*"], ids=["one", "all"])
async def test_a_breakpoint_before_a_node_stops_there(sdk: LangGraphClient, thread: str, nodes: Any) -> None:
    await wait(sdk, thread, "hello", interrupt_before=nodes)
    state = await sdk.threads.get_state(thread)
    assert state["next"] == [{"*": "gate"}.get(nodes, "chat") if isinstance(nodes, str) else "chat"]
    assert (await sdk.threads.get(thread))["status"] == "interrupted"


async def test_a_breakpoint_after_a_node_stops_there_and_null_goes_on(sdk: LangGraphClient, thread: str) -> None:
    events = await parts(sdk.runs.stream(thread, AGENT, input=question("hello"), stream_mode="updates", interrupt_after=["gate"]))
    assert named(events, "updates") == [{"gate": {"steps": ["gate"], "note": "plain"}}, {"__interrupt__": []}]
    values: Any = await sdk.runs.wait(thread, AGENT, input=None)
    assert texts(values) == ["hello", "It is so."]


async def test_a_run_from_an_older_checkpoint_forks(sdk: LangGraphClient, thread: str) -> None:
    """How clients regenerate an answer: no input, from before it."""
    await wait(sdk, thread, "hello")
    last, before = (await sdk.threads.get_history(thread))[:2]
    values: Any = await sdk.runs.wait(thread, AGENT, input=None, checkpoint=before["checkpoint"])
    assert texts(values) == ["hello", "It is so."]
    again = await sdk.threads.get_state(thread)
    assert again["checkpoint"] != last["checkpoint"]
    assert values["messages"][-1]["id"] != last["values"]["messages"][-1]["id"]  # type: ignore[call-overload]  # a dict
    parents = [state["parent_checkpoint"] for state in await sdk.threads.get_history(thread, limit=20)]
    assert parents.count(before["checkpoint"]) == 2


async def test_an_edited_question_forks_from_before_it(sdk: LangGraphClient, thread: str) -> None:
    await wait(sdk, thread, "first")
    end = (await sdk.threads.get_state(thread))["checkpoint"]
    await wait(sdk, thread, "secnod")
    values = await wait(sdk, thread, "second", checkpoint_id=end["checkpoint_id"])
    assert texts(values) == ["first", "It is so.", "second", "It is so."]
