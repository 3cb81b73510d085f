"""The real reader, pointed at the fake model; what it would have slept and what it counted is kept for asserts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from pydantic import SecretStr

from agent_service.agents.circuit import CircuitBreaker
from agent_service.agents.completion_reader import ChunkStream, CompletionsReader
from agent_service.agents.endpoint import ModelEndpoint, open_endpoint
from agent_service.agents.model_keys import ApiKeySource
from agent_service.agents.model_probe import answers
from agent_service.settings import Settings


@dataclass(frozen=True)
class Client:
    reader: CompletionsReader
    endpoint: ModelEndpoint
    pauses: list[float]
    counts: list[tuple[str, str]]
    circuits: list[tuple[str, bool]]
    """What the breaker told: model, and whether it opened."""
    now: list[float]
    """One number: the reader's clock."""

    @property
    def statuses(self) -> list[str]:
        return [status for _, status in self.counts]

    async def stream(self, question: str = "hello", model: str = "fake-1", **payload: Any) -> ChunkStream:
        messages = [{"role": "user", "content": question}]
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await self.reader.create(model=model, messages=messages, **options, **payload)
        assert isinstance(stream, ChunkStream)
        return stream

    async def answer(self, question: str = "hello", model: str = "fake-1") -> str:
        async with await self.stream(question, model) as stream:
            return "".join([text_of(chunk) async for chunk in stream])


def text_of(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


class HasUrl(Protocol):
    url: str
    """Base URL, ending in /v1."""


def model_settings(fake: HasUrl, **changes: Any) -> Settings:
    """Settings of a service whose model endpoint is the fake."""
    values = {"auth": "disabled", "model": "fake-1", "openai_base_url": fake.url, "openai_api_key": SecretStr("sk-1"), **changes}
    return Settings(**values)


@asynccontextmanager
async def open_client(
    fake: HasUrl,
    *,
    keys: ApiKeySource | None = None,
    fallback: str | None = None,
    share: float = 0.5,
    circuit: int = 0,
    **settings: Any,
) -> AsyncIterator[Client]:
    """A client that never really sleeps; `share` is its random number."""
    pauses: list[float] = []
    counts: list[tuple[str, str]] = []
    changes: list[tuple[str, bool]] = []
    now = [0.0]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with open_endpoint(model_settings(fake, **settings), lambda *count: counts.append(count)) as opened:
        endpoint = replace(opened, sleep=sleep, share=lambda: share, keys=keys or opened.keys)

        async def until_asked_again(seconds: float) -> None:
            until = now[0] + seconds
            while now[0] < until:
                await asyncio.sleep(0.001)

        breaker = CircuitBreaker(
            circuit,
            lambda *change: changes.append(change),
            partial(answers, endpoint),
            clock=lambda: now[0],
            sleep=until_asked_again,
        )
        reader = CompletionsReader(endpoint, fallback, clock=lambda: now[0], breaker=breaker)
        async with breaker.closing():
            yield Client(reader, endpoint, pauses, counts, changes, now)
