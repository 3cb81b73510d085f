"""Tokens that are lists of content blocks: https://github.com/langchain-ai/langchain/issues/30703,
https://github.com/langchain-ai/langchain-google/issues/1460, https://github.com/Chainlit/chainlit/pull/2191,
https://github.com/BerriAI/litellm/issues/16272.

The run completed with an empty answer, and the callback's exception was only logged. Siblings: thinking before, between and
after text, strings within the list, blocks of unknown types, a whole message of blocks, reasoning beside plain text.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

from agent_service.runs.callback_handler import RunCallbackHandler
from tests.field.serving import ask, served, stream

Content = str | list[Any]

STREAMS: dict[str, Sequence[Content]] = {
    "text blocks": [[{"type": "text", "text": "Hello"}], [{"type": "text", "text": " world"}]],
    "thinking first": [
        [{"type": "thinking", "thinking": "Hm"}],
        [{"type": "thinking", "thinking": "m.", "signature": "x"}],
        [{"type": "text", "text": "Hello world"}],
    ],
    "thinking that is a list": [
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]}],
        [{"type": "text", "text": "Hello world"}],
    ],
    "both in one token": [[{"type": "thinking", "thinking": "Hmm."}, {"type": "text", "text": "Hello world"}]],
    "strings in the list": [["Hello"], [" ", {"type": "text", "text": "world"}]],
    "unknown blocks": [[{"type": "image", "url": "x"}, {"text": "no type"}], [{"type": "text", "text": "Hello world"}]],
    "reasoning blocks": [[{"type": "reasoning", "reasoning": "Hmm."}], [{"type": "text", "text": "Hello world"}]],
    "empty tokens": [[], "", [{"type": "text", "text": ""}], [{"type": "text", "text": "Hello world"}]],
    "plain text": ["Hello", " world"],
}


class Blocks(BaseChatModel):
    tokens: Sequence[Any]

    @property
    def _llm_type(self) -> str:
        return "blocks"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        whole = [block for token in self.tokens for block in (token if isinstance(token, list) else [token])]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(whole))])

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for token in self.tokens:
            yield ChatGenerationChunk(message=AIMessageChunk(content=token))


def build(_: Any) -> StateGraph[MessagesState]:
    """Answers with the stream that the question names."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        model = Blocks(tokens=STREAMS[state["messages"][-1].text])
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")


def build_whole(_: Any) -> StateGraph[MessagesState]:
    """The same, by a node that says its message without streaming it."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        model = Blocks(tokens=STREAMS[state["messages"][-1].text], disable_streaming=True)
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")


async def test_content_blocks_are_the_answer_and_thinking_is_apart(database_url: str) -> None:
    async with served(database_url, __name__) as client:
        streams = {name: await stream(client, name) for name in STREAMS}
    assert {name: found.text for name, found in streams.items()} == dict.fromkeys(STREAMS, "Hello world")
    thoughts = {name: "".join(event["text"] for event in found.named("reasoning")) for name, found in streams.items()}
    assert {name: text for name, text in thoughts.items() if text} == {
        "thinking first": "Hmm.",
        "thinking that is a list": "Hmm.",
        "both in one token": "Hmm.",
        "reasoning blocks": "Hmm.",
    }


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "unknown blocks"])
async def test_a_whole_message_of_blocks_is_the_answer(database_url: str, name: str) -> None:
    async with served(database_url, __name__, "build_whole") as client:
        assert (await ask(client, name))["answer"] == "Hello world"


async def test_a_fault_in_the_callback_fails_the_run_instead_of_an_empty_answer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise AttributeError("a fault of ours")

    monkeypatch.setattr(RunCallbackHandler, "on_llm_new_token", broken)
    async with served(database_url, __name__) as client:
        assert (await ask(client, "plain text"))["outcome"] == "failed"
