"""What each stream mode says, and in which form."""

import itertools
from typing import Any, get_args

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamMode, StreamPart

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, ASSISTANT, named, parts, question, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def streamed(sdk: LangGraphClient, thread: str, text: str, *modes: Any, **options: Any) -> list[StreamPart]:
    return await parts(sdk.runs.stream(thread, AGENT, input=question(text), stream_mode=list(modes), **options))


async def test_a_stream_begins_with_its_run(sdk: LangGraphClient, thread: str) -> None:
    begin = (await streamed(sdk, thread, "hello", "values"))[0]
    assert begin.event == "metadata"
    assert begin.data["run_id"] == (await sdk.runs.list(thread))[0]["run_id"]


async def test_values_is_the_whole_state_after_each_step(sdk: LangGraphClient, thread: str) -> None:
    values = named(await streamed(sdk, thread, "hello", "values"), "values")
    assert [texts(each) for each in values] == [["hello"], ["hello"], ["hello", "It is so."]]
    assert [each.get("steps", []) for each in values] == [[], ["gate"], ["gate", "chat"]]
    assert values[-1] == (await sdk.threads.get_state(thread))["values"]


async def test_values_is_what_a_stream_says_unasked(sdk: LangGraphClient, thread: str) -> None:
    events = await parts(sdk.runs.stream(thread, AGENT, input=question("hello")))
    assert {part.event for part in events} == {"metadata", "values"}


async def test_updates_is_what_each_node_returned(sdk: LangGraphClient, thread: str) -> None:
    first, second = named(await streamed(sdk, thread, "hello", "updates"), "updates")
    assert first == {"gate": {"steps": ["gate"], "note": "plain"}}
    assert second.keys() == {"chat"}
    assert (second["chat"]["steps"], texts(second["chat"])) == (["chat"], ["It is so."])


async def test_messages_tuple_is_token_by_token(sdk: LangGraphClient, thread: str) -> None:
    told = named(await streamed(sdk, thread, "hello", "messages-tuple"), "messages")
    chunks = [chunk for chunk, _ in told]
    assert "".join(chunk["content"] for chunk in chunks) == "It is so."
    assert {chunk["type"] for chunk in chunks} == {"AIMessageChunk"}
    stored = (await sdk.threads.get_state(thread))["values"]["messages"][-1]  # type: ignore[call-overload]  # a dict
    assert {chunk["id"] for chunk in chunks} == {stored["id"]}
    for _, metadata in told:
        assert (metadata["langgraph_node"], metadata["langgraph_step"]) == ("chat", 2)
        assert metadata["langgraph_checkpoint_ns"].startswith("chat:")


async def test_messages_tuple_has_usage_once(sdk: LangGraphClient, thread: str) -> None:
    told = named(await streamed(sdk, thread, "hello", "messages-tuple"), "messages")
    assert [chunk["usage_metadata"]["output_tokens"] for chunk, _ in told if chunk.get("usage_metadata")] == [3]


async def test_messages_tuple_has_tool_calls_in_pieces_and_their_results_whole(sdk: LangGraphClient, thread: str) -> None:
    chunks = [chunk for chunk, _ in named(await streamed(sdk, thread, "weather", "messages-tuple"), "messages")]
    pieces = [piece for chunk in chunks for piece in chunk.get("tool_call_chunks", [])]
    assert pieces[0]["name"] == "weather"
    assert pieces[0]["id"]
    assert {piece["index"] for piece in pieces} == {0}
    assert "".join(piece["args"] for piece in pieces) == '{"city":"Paris"}'
    (result,) = [chunk for chunk in chunks if chunk["type"] == "tool"]
    assert (result["content"], result["tool_call_id"]) == ("It is sunny in Paris.", pieces[0]["id"])


async def test_a_message_that_was_never_streamed_comes_whole(sdk: LangGraphClient, thread: str) -> None:
    told = named(await streamed(sdk, thread, "write", "messages-tuple"), "messages")
    assert [(chunk["type"], chunk["content"]) for chunk, _ in told] == [("ai", "written")]


async def test_messages_grows_each_message(sdk: LangGraphClient, thread: str) -> None:
    events = await streamed(sdk, thread, "hello", "messages")
    (about,) = named(events, "messages/metadata")
    ((message, metadata),) = about.items()
    assert metadata["metadata"]["langgraph_node"] == "chat"
    grown = [message["content"] for (message,) in named(events, "messages/partial")]
    assert grown[-1] == "It is so."
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(grown))
    assert {each["id"] for (each,) in named(events, "messages/partial")} == {message}


async def test_messages_gives_a_message_that_was_never_streamed_as_complete(sdk: LangGraphClient, thread: str) -> None:
    events = await streamed(sdk, thread, "write", "messages")
    assert [message["content"] for (message,) in named(events, "messages/complete")] == ["written"]


async def test_custom_is_what_a_node_writes(sdk: LangGraphClient, thread: str) -> None:
    assert named(await streamed(sdk, thread, "write", "custom"), "custom") == [{"done": 1}, {"done": 2}]


async def test_events_are_those_of_langchain(sdk: LangGraphClient, thread: str) -> None:
    events = named(await streamed(sdk, thread, "hello", "events"), "events")
    assert {"on_chain_start", "on_chat_model_start", "on_chat_model_stream", "on_chat_model_end", "on_chain_end"} <= {
        event["event"] for event in events
    }
    tokens = [event["data"]["chunk"]["content"] for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == "It is so."
    assert all({"run_id", "name", "tags", "metadata", "parent_ids"} <= event.keys() for event in events)


async def test_tasks_begin_and_end(sdk: LangGraphClient, thread: str) -> None:
    gate_in, gate_out, chat_in, chat_out = named(await streamed(sdk, thread, "hello", "tasks"), "tasks")
    assert (gate_in["name"], chat_in["name"]) == ("gate", "chat")
    assert (gate_in["id"], chat_in["id"]) == (gate_out["id"], chat_out["id"])
    assert texts(chat_in["input"]) == ["hello"]
    assert gate_in["triggers"]
    assert (gate_out["error"], gate_out["interrupts"]) == (None, [])
    assert gate_out["result"] == {"steps": ["gate"], "note": "plain"}


async def test_checkpoints_are_those_of_the_history(sdk: LangGraphClient, thread: str) -> None:
    told = named(await streamed(sdk, thread, "hello", "checkpoints"), "checkpoints")
    history = (await sdk.threads.get_history(thread))[::-1]
    assert [each["config"]["configurable"]["checkpoint_id"] for each in told] == [
        state["checkpoint"]["checkpoint_id"] for state in history
    ]
    assert [each["next"] for each in told] == [state["next"] for state in history]
    assert [each["metadata"]["step"] for each in told] == [-1, 0, 1, 2]
    assert told[-1]["values"] == history[-1]["values"]


async def test_debug_is_checkpoints_and_tasks(sdk: LangGraphClient, thread: str) -> None:
    told = named(await streamed(sdk, thread, "hello", "debug"), "debug")
    assert {each["type"] for each in told} == {"checkpoint", "task", "task_result"}
    assert [each["payload"]["name"] for each in told if each["type"] == "task"] == ["gate", "chat"]
    assert all({"step", "timestamp"} <= each.keys() for each in told)


async def test_several_modes_come_in_one_stream_in_the_order_of_what_happened(sdk: LangGraphClient, thread: str) -> None:
    events = [part.event for part in await streamed(sdk, thread, "hello", "values", "updates", "messages-tuple", "custom")]
    assert set(events) == {"metadata", "values", "updates", "messages"}
    assert events[:4] == ["metadata", "values", "updates", "values"]
    assert events[-2:] == ["updates", "values"]
    assert set(events[4:-2]) == {"messages"}


async def test_an_interrupt_is_told_by_values_and_updates(sdk: LangGraphClient, thread: str) -> None:
    events = await streamed(sdk, thread, "approve", "values", "updates")
    (asked,) = named(events, "values")[-1]["__interrupt__"]
    assert asked["value"] == {"question": "Go on?"}
    assert asked["id"]
    (told,) = named(events, "updates")[-1]["__interrupt__"]
    assert told["id"] == asked["id"]
    assert events[-1].event == "values"


async def test_subgraphs_have_their_names_in_the_events(sdk: LangGraphClient, thread: str) -> None:
    events = await streamed(sdk, thread, "child", "updates", "values", "messages-tuple", stream_subgraphs=True)
    names = {part.event.split("|")[0] for part in events}
    assert names == {"metadata", "updates", "values", "messages"}
    (within,) = {part.event for part in events if part.event.startswith("updates|")}
    assert within.startswith("updates|child:")
    namespace = within.split("|", 1)[1]
    assert [update.keys() for update in named(events, within)] == [{"think"}, {"ask"}]
    assert named(events, f"values|{namespace}")
    chunks = [chunk["content"] for chunk, _ in named(events, f"messages|{namespace}")]
    assert "".join(chunks) == "It is so."


def named_in(stream: str) -> set[str]:
    """Names of the events of a stream of the bare wire."""
    return {line.removeprefix("event:").strip() for line in stream.splitlines() if line.startswith("event:")} - {
        "metadata",
        "end",
    }


async def test_graphs_are_told_by_their_namespaces(http: httpx.AsyncClient, thread: str, site: Site) -> None:
    """`streamNamespaces` of the JavaScript SDK goes into the query."""
    if site.is_reference:
        return  # 0.16.7 tells of all, as the SDK says of servers without the flag in /info
    assert (await http.get("/info")).json()["flags"]["stream_namespaces"] is True
    body = {
        "assistant_id": AGENT, "input": question("child"), "stream_mode": ["updates", "values", "messages-tuple"],
        "stream_subgraphs": True,
    }  # fmt: skip
    root = await http.post(f"/threads/{thread}/runs/stream?namespace=", json=body)
    assert named_in(root.text) == {"updates", "values"}
    assert root.headers["location"].endswith("/stream?namespace=")
    run = root.headers["content-location"]
    everything = named_in((await http.get(f"{run}/stream")).text)
    (child,) = {name.partition("|")[2] for name in everything if "|" in name}
    inside = await http.get(f"{run}/stream", params={"namespace": [child]})
    assert named_in(inside.text) == {name for name in everything if name.endswith(f"|{child}")}
    both = await http.get(f"{run}/stream", params={"namespace": ["", child]})
    assert named_in(both.text) == everything


async def test_subgraphs_are_silent_unless_asked_for(sdk: LangGraphClient, thread: str) -> None:
    events = await streamed(sdk, thread, "child", "updates", "values")
    assert {part.event for part in events} == {"metadata", "updates", "values"}
    assert [update.keys() for update in named(events, "updates")] == [{"gate"}, {"child"}]


async def test_a_failure_is_an_error_event_and_ends_the_stream(sdk: LangGraphClient, thread: str) -> None:
    events = await streamed(sdk, thread, "fail", "values")
    assert events[-1].event == "error"
    assert isinstance(events[-1].data["error"], str)
    assert isinstance(events[-1].data["message"], str)


async def test_the_wire_is_an_event_stream_that_no_proxy_keeps(http: httpx.AsyncClient, thread: str) -> None:
    body = {"assistant_id": AGENT, "input": question("hello"), "stream_mode": "values"}
    response = await http.post(f"/threads/{thread}/runs/stream", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "no-store" in response.headers["cache-control"]
    run = response.headers["content-location"].removeprefix(f"/threads/{thread}/runs/")
    assert response.headers["location"] == f"/threads/{thread}/runs/{run}/stream"
    assert run in response.text.splitlines()[1]


async def test_an_assistant_may_be_named_by_its_id(sdk: LangGraphClient, thread: str) -> None:
    events = await parts(sdk.runs.stream(thread, ASSISTANT, input=question("hello"), stream_mode="updates"))
    assert [update.keys() for update in named(events, "updates")] == [{"gate"}, {"chat"}]


async def test_a_mode_that_is_none_is_refused(http: httpx.AsyncClient, thread: str) -> None:
    assert "nope" not in get_args(StreamMode)
    for mode in ("nope", ["values", "nope"]):
        response = await http.post(
            f"/threads/{thread}/runs/stream", json={"assistant_id": AGENT, "input": {}, "stream_mode": mode}
        )
        assert response.status_code == 422
        assert "stream_mode" in str(response.json()["detail"])
