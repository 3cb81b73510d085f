"""A graph without messages, beside the other."""

import uuid
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.wire import AGENT, COUNTER, named, parts, question

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_input_need_not_be_messages(sdk: LangGraphClient, thread: str) -> None:
    one: Any = {"numbers": [1, 2]}
    two: Any = {"numbers": [4]}
    assert await sdk.runs.wait(thread, COUNTER, input=one) == {"numbers": [1, 2], "total": 3}
    assert await sdk.runs.wait(thread, COUNTER, input=two) == {"numbers": [1, 2, 4], "total": 7}
    events = await parts(sdk.runs.stream(thread, COUNTER, input=two, stream_mode="updates"))
    assert named(events, "updates") == [{"add_up": {"total": 11}}]
    assert (await sdk.threads.get_state(thread))["values"] == {"numbers": [1, 2, 4, 4], "total": 11}


async def test_its_schemas_are_its_own(sdk: LangGraphClient) -> None:
    (assistant,) = await sdk.assistants.search(graph_id=COUNTER)
    schemas = await sdk.assistants.get_schemas(assistant["assistant_id"])
    assert schemas["state_schema"]["properties"].keys() == {"numbers", "total"}  # type: ignore[index]  # it is there


async def test_each_graph_is_an_assistant(sdk: LangGraphClient) -> None:
    assert {each["graph_id"] for each in await sdk.assistants.search()} == {AGENT, COUNTER}
    assert len({each["assistant_id"] for each in await sdk.assistants.search()}) == 2


async def test_threads_are_found_by_their_graph(sdk: LangGraphClient) -> None:
    mark = {"mark": uuid.uuid4().hex}
    threads = {graph: (await sdk.threads.create(metadata=mark))["thread_id"] for graph in (AGENT, COUNTER)}
    await sdk.runs.wait(threads[AGENT], AGENT, input=question("hello"))
    numbers: Any = {"numbers": [1]}
    await sdk.runs.wait(threads[COUNTER], COUNTER, input=numbers)
    for graph, thread in threads.items():
        assert [each["thread_id"] for each in await sdk.threads.search(metadata={**mark, "graph_id": graph})] == [thread]
