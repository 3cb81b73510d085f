"""What the tests of the wire ask for, and read, again and again."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import StreamPart

AGENT = "agent"
COUNTER = "counter"
ASSISTANT = str(uuid.uuid5(uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8"), AGENT))
"""The id that LangGraph Platform gives to the graph `agent`: people paste it into their clients."""


def question(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def texts(values: Any) -> list[str]:
    return [message["content"] for message in values["messages"]]


async def parts(stream: AsyncIterator[StreamPart]) -> list[StreamPart]:
    """All but the end, which not every server says."""
    return [part async for part in stream if part.event != "end"]


def named(events: list[StreamPart], name: str) -> list[Any]:
    return [part.data for part in events if part.event == name]


async def wait(sdk: LangGraphClient, thread: str, text: str, **options: Any) -> Any:
    """The values after a question."""
    return await sdk.runs.wait(thread, AGENT, input=question(text), **options)


async def interrupted(sdk: LangGraphClient, thread: str, text: str = "approve") -> list[dict[str, Any]]:
    """Asks what makes the graph ask; its questions."""
    values = await wait(sdk, thread, text)
    asked: list[dict[str, Any]] = values["__interrupt__"]
    return asked


async def first(stream: AsyncIterator[StreamPart], name: str) -> StreamPart:
    """The first event of that name; then the reader leaves."""
    return (await until(stream, lambda part: part.event == name))[-1]


async def until(stream: AsyncIterator[StreamPart], holds: Callable[[StreamPart], bool]) -> list[StreamPart]:
    """The events up to the first of which that holds; then the reader leaves."""
    heard = []
    async with aclosing(cast("AsyncGenerator[StreamPart]", stream)) as opened:
        async for part in opened:
            heard.append(part)
            if holds(part):
                return heard
    raise AssertionError(f"not in the stream, which said {heard}")
