"""What callbacks of LangChain become: pieces of the answer, each said once."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.graph import MessagesState

from agent_service.prices import PriceTable
from agent_service.resources import make_metrics
from agent_service.runs import events
from agent_service.runs.callback_handler import RunCallbackHandler
from agent_service.runs.events import START
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import Run
from agent_service.settings import load_settings
from tests.service.runs.graphs import Update, chain


@pytest.fixture
def live() -> LiveRun:
    return LiveRun(Run(uuid4(), "s", "s", "default", "ann", "q", {}, "running", 1, 0, False, False, datetime.now(UTC)))


@pytest.fixture
async def handler(live: LiveRun) -> RunCallbackHandler:
    return RunCallbackHandler(live, make_metrics(load_settings({"AUTH": "disabled"})), PriceTable.load(None))


def call(handler: RunCallbackHandler, node: str, *tokens: str) -> UUID:
    """A model call of the node that has said these tokens so far."""
    run_id = uuid4()
    handler.on_chat_model_start({}, [[HumanMessage("q")]], run_id=run_id, metadata={"langgraph_node": node})
    say(handler, run_id, *tokens)
    return run_id


def say(handler: RunCallbackHandler, run_id: UUID, *tokens: str) -> None:
    for token in tokens:
        handler.on_llm_new_token(token, run_id=run_id)


def end(handler: RunCallbackHandler, run_id: UUID, text: str) -> None:
    message = AIMessage(text, id=str(run_id))
    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run_id)


@pytest.mark.parametrize("other", ["a", "b"])
async def test_a_retry_replaces_its_own_text_only(handler: RunCallbackHandler, live: LiveRun, other: str) -> None:
    """Another call speaks at the same time: of a parallel node, or of the same one."""
    broken, steady = call(handler, "a", "cut "), call(handler, other, "one ", "two ")
    handler.on_llm_error(ConnectionError(), run_id=broken)
    retry = call(handler, "a", "whole ")
    say(handler, steady, "three ")
    end(handler, steady, "one two three ")
    end(handler, retry, "whole ")

    assert "cut" not in live.said.answer
    assert [live.said.answer.count(word) for word in ("one ", "two ", "three ", "whole ")] == [1, 1, 1, 1]
    (reset,) = [event for event in live.said.events if event.kind == "reset"]
    assert reset.payload["text"] == "one two "


async def test_text_of_a_call_that_is_not_tried_again_stays(handler: RunCallbackHandler, live: LiveRun) -> None:
    broken = call(handler, "a", "cut off")
    handler.on_llm_error(ConnectionError(), run_id=broken)
    end(handler, call(handler, "b", "another node"), "another node")

    assert live.said.answer == "cut off\n\nanother node"


async def test_nothing_follows_the_end(handler: RunCallbackHandler, live: LiveRun) -> None:
    """A sync node's thread may outlive its run."""
    speaking = call(handler, "a", "in time")
    live.said.publish(events.end())
    say(handler, speaking, "late")
    handler.on_tool_start({"name": "late"}, "", run_id=uuid4())
    live.said.release(stored=True)

    assert [event.kind for event in live.said.since(START)] == ["text", "end"]
    assert live.said.since(START)[0].payload == "in time"


@pytest.mark.parametrize("copied", ["hello world", " hello world\n"])
async def test_a_node_that_streams_and_returns_a_copy_says_it_once(
    handler: RunCallbackHandler, live: LiveRun, copied: str
) -> None:
    def script() -> Iterator[AIMessage]:
        yield AIMessage("hello world ")

    model = GenericFakeChatModel(messages=script())

    async def copy(state: MessagesState) -> Update:
        await model.ainvoke(state["messages"])
        return {"messages": [AIMessage(copied)]}

    await chain(("copy", copy)).compile().ainvoke({"messages": [HumanMessage("q")]}, {"callbacks": [handler]})

    assert live.said.answer == "hello world "
    assert [event.payload for event in live.said.events if event.kind == "text"] == ["hello", " ", "world", " "]


async def test_a_node_that_streams_and_returns_another_message_says_both(handler: RunCallbackHandler, live: LiveRun) -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("a thought")]))

    async def rewrite(state: MessagesState) -> Update:
        await model.ainvoke(state["messages"])
        return {"messages": [AIMessage("the answer")]}

    await chain(("rewrite", rewrite)).compile().ainvoke({"messages": [HumanMessage("q")]}, {"callbacks": [handler]})

    assert live.said.answer == "a thought\n\nthe answer"
