"""Version 2 of the protocol: commands, and one stream of events for a thread. `threads.stream` of the SDK, and the bare wire."""

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, question, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANNELS = ["values", "checkpoints", "lifecycle", "input", "messages", "tools"]
"""As useStream subscribes."""


def text_of(message: dict[str, Any]) -> str:
    """The reference answers in content blocks on this wire."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


async def command(http: httpx.AsyncClient, thread: str, method: str, **params: Any) -> dict[str, Any]:
    response = await http.post(f"/threads/{thread}/commands", json={"id": 7, "method": method, "params": params})
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    assert answer["id"] == 7
    return answer


async def start(http: httpx.AsyncClient, text: str) -> str:
    """A run on a thread of an id that the client made."""
    thread = str(uuid.uuid4())
    answer = await command(http, thread, "run.start", assistant_id=AGENT, input=question(text))
    assert answer["type"] == "success"
    assert answer["result"]["run_id"]
    return thread


async def events(http: httpx.AsyncClient, thread: str, last: str, **body: Any) -> list[dict[str, Any]]:
    """What the thread's stream says, up to the run's lifecycle event of that name."""
    heard = []
    asked = {"channels": CHANNELS, **body}
    async with asyncio.timeout(20), http.stream("POST", f"/threads/{thread}/stream/events", json=asked) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                heard.append(json.loads(line.removeprefix("data:")))
                if is_lifecycle(heard[-1], last):
                    return heard
    raise AssertionError(f"the stream ended before {last}: {heard}")


def is_lifecycle(event: dict[str, Any], name: str) -> bool:
    return event["method"] == "lifecycle" and not event["params"]["namespace"] and event["params"]["data"]["event"] == name


def lasting(heard: list[dict[str, Any]], after: int = 0) -> list[str]:
    """Ids of events, of states the last alone: it stands for those before, and has no checkpoint for who heard none of them."""
    states = [event for event in heard if event["method"] == "values"]
    left = [event for event in heard if event["method"] not in {"values", "checkpoints"} or event is states[-1]]
    return [event["event_id"] for event in left if event["seq"] > after]


def data(heard: list[dict[str, Any]], method: str) -> list[Any]:
    return [event["params"]["data"] for event in heard if event["method"] == method]


async def test_a_run_makes_its_thread_and_gives_its_output(sdk: LangGraphClient) -> None:
    async with sdk.threads.stream(assistant_id=AGENT) as stream:
        await stream.run.start(input=question("hello"))
        values = await stream.output
    assert [text_of(message) for message in values["messages"]] == ["hello", "It is so."]
    assert (await sdk.threads.get(stream.thread_id))["status"] == "idle"


async def test_messages_are_heard_as_they_are_said(sdk: LangGraphClient) -> None:
    async with sdk.threads.stream(assistant_id=AGENT) as stream:
        await stream.run.start(input=question("hello"))
        async with asyncio.timeout(20):
            messages = [message async for message in stream.messages]
            assert [await message.text for message in messages] == ["It is so."]


async def test_a_checkpoint_comes_before_its_state_and_names_the_one_before(http: httpx.AsyncClient, site: Site) -> None:
    """useStream takes the parent of the first one that has a message for the place to ask it anew."""
    thread = str(uuid.uuid4())
    reader = asyncio.create_task(events(http, thread, "completed", channels=["values", "checkpoints", "lifecycle"]))
    await asyncio.sleep(0.2)
    await command(http, thread, "run.start", assistant_id=AGENT, input=question("hello"))
    whole = await reader
    heard = [event for event in whole if event["method"] != "lifecycle"]
    if site.is_reference:
        assert {event["method"] for event in heard} == {"values"}  # it does not record them for `run.start`
        return
    assert [event["method"] for event in heard] == ["checkpoints", "values"] * (len(heard) // 2)
    saved = data(heard, "checkpoints")
    assert [(each["step"], each["source"]) for each in saved] == [(0, "loop"), (1, "loop"), (2, "loop")]
    assert [each["parent_id"] for each in saved[1:]] == [each["id"] for each in saved[:-1]]
    first = next(n for n, values in enumerate(data(heard, "values")) if values.get("messages"))
    again = await command(
        http, thread, "run.start", assistant_id=AGENT, input=question("instead"),
        config={"configurable": {"checkpoint_id": saved[first]["parent_id"]}},
    )  # fmt: skip
    assert again["type"] == "success", again
    later = data(await events(http, thread, "completed", since=whole[-1]["seq"]), "values")[-1]
    assert [text_of(message) for message in later["messages"]] == ["instead", "It is so."]


async def test_who_comes_late_is_told_no_checkpoint_that_is_not_that_of_a_message(http: httpx.AsyncClient) -> None:
    thread = await start(http, "hello")
    await events(http, thread, "completed")
    late = await events(http, thread, "completed")
    told, states = data(late, "checkpoints"), data(late, "values")
    assert len(told) in {0, len(states)}  # all states, each with its own, or the last alone


async def test_a_question_is_answered(sdk: LangGraphClient) -> None:
    async with sdk.threads.stream(assistant_id=AGENT) as stream:
        await stream.run.start(input=question("approve"))
        async with asyncio.timeout(20):
            while not stream.interrupted:
                await asyncio.sleep(0.05)
        (asked,) = stream.interrupts
        await stream.run.respond("yes", interrupt_id=asked["interrupt_id"])
        async with asyncio.timeout(20):
            while (await sdk.threads.get(stream.thread_id))["status"] != "idle":
                await asyncio.sleep(0.05)
    values: Any = (await sdk.threads.get_state(stream.thread_id))["values"]
    assert values["note"] == "decided: yes"


async def test_the_events_of_a_run_in_their_order(http: httpx.AsyncClient) -> None:
    thread = await start(http, "hello")
    heard = await events(http, thread, "completed")
    assert data(heard, "lifecycle")[0]["event"] == "running"
    assert {event["type"] for event in heard} == {"event"}
    seqs = [event["seq"] for event in heard]
    assert seqs == sorted(set(seqs))
    assert len({event["event_id"] for event in heard}) == len(heard)
    said = data(heard, "messages")
    assert [each["event"] for each in said if each["event"] != "content-block-delta"] == [
        "message-start", "content-block-start", "content-block-finish", "message-finish",
    ]  # fmt: skip
    assert "".join(each["delta"]["text"] for each in said if each["event"] == "content-block-delta") == "It is so."
    assert texts({"messages": data(heard, "values")[-1]["messages"][:1]}) == ["hello"]
    assert text_of(data(heard, "values")[-1]["messages"][-1]) == "It is so."


async def test_a_tool_call_is_told_as_a_block_of_its_message(http: httpx.AsyncClient) -> None:
    heard = await events(http, await start(http, "weather"), "completed")
    finished = [each["content"] for each in data(heard, "messages") if each["event"] == "content-block-finish"]
    call = finished[0]
    assert (call["type"], call["name"], call["args"]) == ("tool_call", "weather", {"city": "Paris"})
    assert finished[-1] == {**finished[-1], "type": "text", "text": "It is so."}


async def test_an_interrupt_is_an_input_that_is_requested(http: httpx.AsyncClient) -> None:
    thread = await start(http, "approve")
    heard = await events(http, thread, "interrupted")
    (asked,) = data(heard, "input.requested")
    assert asked["payload"] == {"question": "Go on?"}
    answer = await command(http, thread, "input.respond", namespace=[], interrupt_id=asked["interrupt_id"], response="yes")
    assert answer["type"] == "success"
    later = await events(http, thread, "completed")
    assert data(later, "values")[-1]["note"] == "decided: yes"


async def test_a_second_reader_hears_the_same_from_the_start_or_from_where_it_says(http: httpx.AsyncClient) -> None:
    thread = await start(http, "hello")
    heard = await events(http, thread, "completed")
    again = await events(http, thread, "completed")
    assert lasting(again) == lasting(heard)
    middle = heard[len(heard) // 2]["seq"]
    rest = await events(http, thread, "completed", since=middle)
    assert lasting(rest) == lasting(heard, after=middle)


async def test_a_reader_may_come_before_the_thread(http: httpx.AsyncClient) -> None:
    thread = str(uuid.uuid4())
    reader = asyncio.create_task(events(http, thread, "completed"))
    await asyncio.sleep(0)
    answer = await command(http, thread, "run.start", assistant_id=AGENT, input=question("hello"))
    assert answer["type"] == "success"
    assert text_of(data(await reader, "values")[-1]["messages"][-1]) == "It is so."


async def test_a_stream_goes_on_from_run_to_run(http: httpx.AsyncClient) -> None:
    thread = await start(http, "hello")
    heard = await events(http, thread, "completed")
    await command(http, thread, "run.start", assistant_id=AGENT, input=question("again"))
    later = await events(http, thread, "completed", since=heard[-1]["seq"])
    assert len(data(later, "values")[-1]["messages"]) == 4


async def test_a_failure_is_a_lifecycle_event(http: httpx.AsyncClient) -> None:
    heard = await events(http, await start(http, "fail"), "failed")
    assert isinstance(data(heard, "lifecycle")[-1]["error"], str)


async def test_what_a_subgraph_says_has_its_namespace(http: httpx.AsyncClient) -> None:
    heard = await events(http, await start(http, "child"), "completed")
    namespaces = {tuple(event["params"]["namespace"]) for event in heard if event["method"] == "messages"}
    ((name,),) = namespaces
    assert name.startswith("child:")


async def test_channels_are_those_that_were_asked_for(http: httpx.AsyncClient, site: Site) -> None:
    heard = await events(http, await start(http, "write"), "completed", channels=["custom", "lifecycle"])
    written = [] if site.is_reference else [{"payload": {"done": 1}}, {"payload": {"done": 2}}]  # there by no channel at all
    assert {event["method"] for event in heard} - {"custom"} == {"lifecycle"}
    assert data(heard, "custom") == written


@pytest.mark.parametrize("body", [{}, {"channels": []}, {"channels": ["nope"]}, {"channels": "values"}], ids=repr)
async def test_channels_that_are_none_are_refused(http: httpx.AsyncClient, thread: str, body: dict[str, Any]) -> None:
    response = await http.post(f"/threads/{thread}/stream/events", json=body)
    assert response.status_code in {400, 422}
    assert "channels" in response.json()["detail"]


async def test_a_run_begins_where_the_client_forks(http: httpx.AsyncClient, sdk: LangGraphClient, site: Site) -> None:
    """As `submit(input, { forkFrom, multitaskStrategy })` of useStream sends it, which says the strategy twice."""
    if site.is_reference:
        return  # its run has no messages at all when it begins before the first of them
    thread = await start(http, "hello")
    await events(http, thread, "completed")
    first = (await sdk.threads.get_history(thread))[-1]["checkpoint"]["checkpoint_id"]
    given: Any = {
        "assistant_id": AGENT, "input": question("instead"), "multitask_strategy": "enqueue", "multitaskStrategy": "enqueue",
        "config": {"configurable": {"checkpoint_id": first, "thread_id": thread}},
    }  # fmt: skip
    answer = await command(http, thread, "run.start", **given)
    assert answer["type"] == "success", answer
    values: Any = await sdk.runs.join(thread, answer["result"]["run_id"])
    assert [text_of(message) for message in values["messages"]] == ["instead", "It is so."]


async def test_a_place_to_fork_at_that_is_none_is_refused(http: httpx.AsyncClient, thread: str, site: Site) -> None:
    if site.is_reference:
        return  # it takes the latest
    config = {"configurable": {"checkpoint_id": {"a": 1}}}
    answer = await command(http, thread, "run.start", assistant_id=AGENT, input=question("hello"), config=config)
    assert (answer["error"], "checkpoint_id" in answer["message"]) == ("invalid_argument", True)


async def test_a_strict_answer_is_taken(http: httpx.AsyncClient) -> None:
    thread = await start(http, "approve")
    (asked,) = data(await events(http, thread, "interrupted"), "input.requested")
    answer = await command(
        http, thread, "input.respond", interrupt_id=asked["interrupt_id"], response="yes", namespace=[], strict_resume=True
    )
    assert answer["type"] == "success", answer
    assert data(await events(http, thread, "completed"), "values")[-1]["note"] == "decided: yes"


async def test_commands_that_are_wrong_are_answered_with_their_code(http: httpx.AsyncClient, thread: str) -> None:
    assert (await command(http, thread, "nope"))["error"] == "unknown_command"
    unknown = await command(http, thread, "run.start", assistant_id="nope", input={})
    assert unknown["type"] == "error"
    assert "nope" in unknown["message"]
    nobody = await command(http, thread, "input.respond", namespace=[], interrupt_id="zzz", response="yes")
    assert nobody["error"] == "no_such_interrupt"


@pytest.mark.parametrize("body", [{}, {"method": "run.start"}, {"id": "one", "method": "run.start"}, {"id": 1}], ids=repr)
async def test_a_command_needs_a_number_and_a_method(http: httpx.AsyncClient, thread: str, body: dict[str, Any]) -> None:
    response = await http.post(f"/threads/{thread}/commands", json=body)
    assert response.status_code in {400, 422}
