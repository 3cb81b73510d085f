"""A call that a node awaits: our handlers hear its text as it is read, and langchain gets the message that it always got."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.tracers._streaming import _StreamingCallbackHandler

from agent_service.agents.chat_model import chat_model
from agent_service.errors import ModelUnavailable
from agent_service.listeners import TextListener
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall, echo_tokens
from tests.support.model_client import open_client

TOKENS = 30


class Ear(BaseCallbackHandler, TextListener, _StreamingCallbackHandler[Any]):
    """Hears as a run's handler does."""

    run_inline = True

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.chunks: list[Any] = []
        self.ids: set[UUID] = set()

    def on_model_text(self, run_id: UUID, text: str) -> None:
        self.heard.append(text)
        self.ids.add(run_id)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **_: Any) -> None:  # noqa: ARG002  # langchain's
        self.chunks.append(chunk)
        self.ids.add(run_id)

    def tap_output_aiter(self, run_id: UUID, output: Any) -> Any:  # noqa: ARG002  # langchain's
        return output

    def tap_output_iter(self, run_id: UUID, output: Any) -> Any:  # noqa: ARG002  # langchain's
        return output


class Counter(AsyncCallbackHandler):
    """Somebody else's handler, that wants tokens."""

    def __init__(self) -> None:
        self.tokens: list[Any] = []

    async def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.tokens.append(token)


@pytest.fixture
async def fake() -> AsyncIterator[FakeModel]:
    async with FakeModel(Script(token_count=TOKENS, tokens_per_second=60)) as server:
        yield server


@pytest.fixture
async def model(fake: FakeModel) -> AsyncIterator[BaseChatModel]:
    async with open_client(fake, model_max_retries=0) as client:
        yield chat_model("fake-1", client.reader)


async def test_the_text_is_heard_as_it_comes_and_costs_no_chunk_a_token(model: BaseChatModel) -> None:
    ear = Ear()
    message = await model.ainvoke("hello", {"callbacks": [ear]})

    assert "".join(ear.heard) == message.text == "".join(echo_tokens("hello", TOKENS))
    assert len(ear.heard) > TOKENS / 2, "each token that arrives alone is heard alone"
    assert len(ear.chunks) < 6, [chunk.message for chunk in ear.chunks]
    assert len(ear.ids) == 1


@pytest.mark.parametrize("calls", [[], [ToolCall(name="pay", arguments={"n": 1}), ToolCall(name="pay", arguments={})]])
async def test_langchain_gets_the_message_that_it_gets_of_a_stream(
    fake: FakeModel, model: BaseChatModel, calls: list[ToolCall]
) -> None:
    fake.script = Script(token_count=5, tool_calls=calls, preface=["I ", "pay."])
    asked = model.bind(tools=[{"type": "function", "function": {"name": "pay", "parameters": {}}}])
    heard = await asked.ainvoke("hello", {"callbacks": [Ear()]})
    whole = message_chunk_to_message(sum([chunk async for chunk in asked.astream("hello")], AIMessageChunk(content="")))

    assert heard.model_copy(update={"id": None}) == whole.model_copy(update={"id": None})
    assert [call["name"] for call in heard.tool_calls] == [call.name for call in calls]
    assert heard.usage_metadata is not None


async def test_who_else_wants_tokens_gets_all_of_them(model: BaseChatModel) -> None:
    ear, counter = Ear(), Counter()
    message = await model.ainvoke("hello", {"callbacks": [ear, counter]})

    assert "".join(counter.tokens) == message.text
    assert len(counter.tokens) > TOKENS / 2
    assert ear.heard == [], "langchain has told it"
    assert "".join(chunk.text for chunk in ear.chunks) == message.text


async def test_a_call_from_a_thread_is_heard_on_the_loop(model: BaseChatModel) -> None:
    ear = Ear()
    message = await asyncio.to_thread(model.invoke, "hello", {"callbacks": [ear]})

    assert "".join(ear.heard) == message.text
    assert len(ear.chunks) < 6


async def test_a_call_that_is_not_to_stream_does_not(fake: FakeModel, model: BaseChatModel) -> None:
    ear = Ear()
    message = await model.bind(stream=False).ainvoke("hello", {"callbacks": [ear]})

    assert (message.text, ear.heard) == ("".join(echo_tokens("hello", TOKENS)), [])
    assert not fake.requests[-1].payload.get("stream")


async def test_what_was_said_before_an_answer_breaks_off_has_been_heard(fake: FakeModel, model: BaseChatModel) -> None:
    fake.script = Script(token_count=9, faults=[Fault(kind="cut", after_tokens=4)])
    ear = Ear()
    with pytest.raises(ModelUnavailable):
        await model.ainvoke("hello", {"callbacks": [ear], "run_id": uuid4()})

    assert "".join(echo_tokens("hello", 9)).startswith("".join(ear.heard))
    assert ear.heard
