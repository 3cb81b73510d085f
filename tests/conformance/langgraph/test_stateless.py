"""Runs on no thread."""

import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.wire import AGENT, named, parts, question, texts

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_wait(sdk: LangGraphClient) -> None:
    values: Any = await sdk.runs.wait(None, AGENT, input=question("hello"))
    assert texts(values) == ["hello", "It is so."]


async def test_stream(sdk: LangGraphClient) -> None:
    events = await parts(sdk.runs.stream(None, AGENT, input=question("hello"), stream_mode=["updates", "messages-tuple"]))
    assert [update.keys() for update in named(events, "updates")] == [{"gate"}, {"chat"}]
    assert "".join(chunk["content"] for chunk, _ in named(events, "messages")) == "It is so."


async def test_its_thread_is_not_listed(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    """Slipway keeps it for ten minutes: for a client that lost its connection and comes back."""
    response = await http.post("/runs/wait", json={"assistant_id": AGENT, "input": question("hello")})
    thread = response.headers["location"].split("/")[2]
    assert thread not in [each["thread_id"] for each in await sdk.threads.search(limit=10)]
    assert await sdk.threads.search(ids=[thread]) == []


async def test_its_thread_is_not_counted(sdk: LangGraphClient) -> None:
    mark = {"mark": uuid.uuid4().hex}
    await sdk.runs.wait(None, AGENT, input=question("hello"), metadata=mark)
    assert await sdk.threads.count(metadata=mark) == 0


async def test_an_interrupt_is_told_and_that_is_all(sdk: LangGraphClient) -> None:
    values: Any = await sdk.runs.wait(None, AGENT, input=question("approve"))
    assert [each["value"] for each in values["__interrupt__"]] == [{"question": "Go on?"}]


async def test_a_failure_raises(sdk: LangGraphClient) -> None:
    with pytest.raises(Exception, match=": "):
        await sdk.runs.wait(None, AGENT, input=question("fail"))


async def test_in_the_background(sdk: LangGraphClient) -> None:
    run = await sdk.runs.create(None, AGENT, input=question("hello"), metadata={"m": 1})
    assert run["run_id"]
    assert run["status"] in {"pending", "running"}
    assert run["metadata"]["m"] == 1  # type: ignore[index]  # it is there


async def test_several_at_once(sdk: LangGraphClient) -> None:
    created: Any = await sdk.runs.create_batch(
        [{"assistant_id": AGENT, "input": question(text)} for text in ("one", "two")]  # type: ignore[typeddict-item]  # all that is needed
    )
    assert len({run["run_id"] for run in created}) == 2


async def test_one_thread_may_be_asked_to_stay(http: httpx.AsyncClient, sdk: LangGraphClient) -> None:
    body = {"assistant_id": AGENT, "input": question("hello"), "on_completion": "keep"}
    response = await http.post("/runs/wait", json=body)
    thread = response.headers["location"].split("/")[2]
    assert texts((await sdk.threads.get_state(thread))["values"]) == ["hello", "It is so."]
    assert [each["thread_id"] for each in await sdk.threads.search(ids=[thread])] == [thread]
