"""Reads an SSE stream by httpx-sse (not our own parser)."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse


@dataclass(frozen=True, slots=True)
class Stream:
    """What came of a stream."""

    events: list[ServerSentEvent]

    @property
    def text(self) -> str:
        return "".join(e.data for e in self.events if e.event == "message" and e.data != "[DONE]")

    @property
    def done(self) -> bool:
        return bool(self.events) and self.events[-1].data == "[DONE]"

    def named(self, name: str) -> list[Any]:
        return [json.loads(e.data) for e in self.events if e.event == name]

    @property
    def ids(self) -> list[tuple[str, int, int]]:
        return [parse_id(e.id) for e in self.events]


def parse_id(text: str) -> tuple[str, int, int]:
    run_id, attempt, seq = text.rsplit("-", 2)
    return run_id, int(attempt), int(seq)


async def iterate(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> AsyncIterator[ServerSentEvent]:
    async with aconnect_sse(client, method, url, **options) as source:
        try:
            source.response.raise_for_status()
        except httpx.HTTPStatusError as error:
            error.add_note((await source.response.aread()).decode())
            raise
        async for event in source.aiter_sse():
            # The standard drops an event without data; httpx-sse makes one of each heartbeat.
            if event.data:
                yield event


async def read(client: httpx.AsyncClient, method: str, url: str, *, stop_after: int | None = None, **options: Any) -> Stream:
    """Reads to the end, or leaves after so many events."""
    events: list[ServerSentEvent] = []
    stream = iterate(client, method, url, **options)
    async for event in stream:
        events.append(event)
        if stop_after is not None and len(events) >= stop_after:
            break
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    return Stream(events)
