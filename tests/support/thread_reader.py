"""LangGraph's own client as a chat window uses it: asks on a thread of its own, and holds what the stream makes of messages."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient

from tests.support.load import again_and_again

RETRY_SECONDS = 0.5

MODES: list[Any] = ["messages-tuple", "values"]


def asking(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@dataclass
class ThreadReader:
    """One question, its stream, and the state of its thread right after it."""

    question: str
    thread_id: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    """Of messages, by id, as chunks and removals made them."""
    values: dict[str, Any] = field(default_factory=dict)
    state: list[str] = field(default_factory=list)
    """Answers in the thread's state after the end."""
    attempts: list[int] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)
    seen: list[tuple[str | None, str, str]] = field(default_factory=list)
    ended: bool = False
    begun_again: int = 0
    """Requests that found nobody: what a person would have sent again."""

    @property
    def answer(self) -> str:
        return "".join(self.texts.values())

    async def run(self, client: LangGraphClient, assistant: str = "agent") -> "ThreadReader":
        while not self.ended:
            try:
                self.thread_id = self.thread_id or (await client.threads.create())["thread_id"]
                await self.read(client.runs.stream(self.thread_id, assistant, input=asking(self.question), stream_mode=MODES))
            except httpx.TransportError:
                if self.seen:
                    raise
                self.begun_again += 1
                self.thread_id = ""  # whether a run has begun there is not known
                await asyncio.sleep(RETRY_SECONDS)
        self.state = await self._answers(client)
        return self

    async def read(self, stream: AsyncIterator[Any]) -> None:
        async for part in stream:
            self.seen.append((part.id, part.event, json.dumps(part.data)))
            match part.event:
                case "metadata":
                    self.attempts.append(part.data["attempt"])
                case "messages":
                    self._take(part.data[0])
                case "values":
                    self.values = part.data
                case "error":
                    self.errors.append(part.data)
                case "end":
                    self.ended = True

    def _take(self, chunk: dict[str, Any]) -> None:
        if chunk["type"] == "remove":
            self.texts.pop(chunk["id"], None)
        elif chunk["type"] == "AIMessageChunk":
            self.texts[chunk["id"]] = self.texts.get(chunk["id"], "") + chunk["content"]

    async def _answers(self, client: LangGraphClient) -> list[str]:
        while True:
            try:
                state: Any = await client.threads.get_state(self.thread_id)
            except httpx.TransportError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return [message["content"] for message in state["values"]["messages"] if message["type"] == "ai"]


@asynccontextmanager
async def thread_load(streams: int, client: LangGraphClient, question: Callable[[int], str]) -> AsyncIterator[list[ThreadReader]]:
    """So many streams at any time; on leaving, those that are open are read to their end."""
    readers: list[ThreadReader] = []
    numbers = itertools.count()

    async def read_one() -> None:
        readers.append(reader := ThreadReader(question(next(numbers))))
        await reader.run(client)

    async with again_and_again(streams, read_one):
        yield readers
