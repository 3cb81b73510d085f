"""Parallel branches stream: https://github.com/langgraph4j/langgraph4j/issues/456.

The words of three nodes interleaved in the answer. Siblings: two calls in one node, a branch that ends before the first
does, messages that are not streamed, and the OpenAI wire.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

from tests.field.serving import ask, served, stream

WORDS = 8


class Paced(BaseChatModel):
    """Says a word of its own again and again, and lets others speak between."""

    word: str

    @property
    def _llm_type(self) -> str:
        return "paced"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for _number in range(WORDS):
            await asyncio.sleep(0.002)
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{self.word} "))


def speaks(word: str) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await Paced(word=word).ainvoke("q")]}

    return node


async def twice_at_once(state: MessagesState) -> dict[str, Any]:
    return {"messages": await asyncio.gather(Paced(word="four").ainvoke("q"), Paced(word="five").ainvoke("q"))}


async def unstreamed(state: MessagesState) -> dict[str, Any]:
    await asyncio.sleep(0.005)
    return {"messages": [AIMessage("six " * WORDS)]}


def build(_: Any) -> Any:
    graph = StateGraph(MessagesState)
    nodes = {"a": speaks("one"), "b": speaks("two"), "c": speaks("three"), "d": twice_at_once, "e": unstreamed}
    for name, node in nodes.items():
        graph.add_node(name, node).add_edge(START, name)
    return graph


def check_one_after_another(answer: str) -> None:
    messages = [" ".join(message.split()) for message in answer.split("\n\n")]
    words = ("one", "two", "three", "four", "five", "six")
    assert sorted(messages) == sorted(" ".join([word] * WORDS) for word in words)


async def openai_answer(client: httpx.AsyncClient) -> str:
    wire = openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    chunks = await wire.chat.completions.create(model="slipway", messages=[{"role": "user", "content": "go"}], stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
    await wire.close()
    return text


@pytest.mark.parametrize("wire", ["chat", "stream", "openai"])
async def test_the_answer_is_one_message_after_another(database_url: str, wire: str) -> None:
    async with served(database_url, __name__) as client:
        if wire == "chat":
            answer = (await ask(client))["answer"]
        elif wire == "stream":
            answer = (await stream(client)).text
        else:
            answer = await openai_answer(client)
    check_one_after_another(answer)


async def test_the_stream_tells_who_speaks_beside_the_answer(database_url: str) -> None:
    async with served(database_url, __name__) as client:
        found = await stream(client)
    beside: dict[str, str] = {}
    for event in found.named("partial"):
        beside[event["source"]] = beside.get(event["source"], "") + event["text"]
    turns = [event["source"] for event in found.named("source")]
    assert len(turns) >= 4
    assert set(beside) == set(turns)
    assert all(text.split()[0] in found.text for text in beside.values())
