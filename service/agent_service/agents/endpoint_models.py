"""The models of an OpenAI-compatible endpoint: ChatOpenAI over our own reader, those that a graph makes itself, embeddings."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from agent_service.agents.adopt import adopted_models
from agent_service.agents.chat_model import chat_model
from agent_service.agents.circuit import CircuitBreaker, OnCircuit
from agent_service.agents.completion_reader import CompletionsReader
from agent_service.agents.endpoint import ModelEndpoint, OnRequest, open_endpoint
from agent_service.agents.model_probe import answers
from agent_service.agents.models import ChatModels, OnEmbedding
from agent_service.errors import ModelUnavailable
from agent_service.settings import OFFLINE_MODEL, Settings
from agent_service.token_counts import count_tokens


@asynccontextmanager
async def open_endpoint_models(
    settings: Settings, on_request: OnRequest, on_circuit: OnCircuit, on_embedding: OnEmbedding
) -> AsyncIterator[ChatModels]:
    """`open_models` with a key."""
    async with open_endpoint(settings, on_request) as endpoint, AsyncExitStack() as stack:
        breaker = CircuitBreaker(settings.model_circuit_failures, on_circuit, partial(answers, endpoint))
        await stack.enter_async_context(breaker.closing())
        reader = CompletionsReader(endpoint, settings.fallback_model, breaker=breaker)
        if settings.adopt_models == "on":
            await stack.enter_async_context(adopted_models(reader))
        chat = _model(settings.model, reader, settings.offline_words_per_second)
        yield ChatModels(
            chat=chat,
            cheap=_model(settings.cheap_model, reader) if settings.cheap_model else chat,
            embeddings=EndpointEmbeddings(endpoint, settings.embedding_model, on_embedding) if settings.embedding_model else None,
            ping=endpoint.ping if settings.model != OFFLINE_MODEL else None,
            keys=endpoint.keys,
        )


def _model(name: str, reader: CompletionsReader, words_per_second: float = 0.0) -> BaseChatModel:
    if name != OFFLINE_MODEL:
        return chat_model(name, reader)
    from agent_service.agents.offline import OfflineChatModel  # noqa: PLC0415  # only where a setting names it

    return OfflineChatModel().at_pace(words_per_second)


BATCH_SIZE = 64
"""Texts per request: 64 passages of 1,000 tokens stay far under OpenAI's limit of 300,000 tokens a request."""


@dataclass(frozen=True, slots=True)
class EndpointEmbeddings(Embeddings):
    """Raises ModelUnavailable and ModelRejected as the chat models do."""

    endpoint: ModelEndpoint
    model: str
    on_embedding: OnEmbedding

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, in order."""
        batches = [texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
        return [vector for batch in batches for vector in await self._embed(batch)]

    async def aembed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return (await self._embed([text]))[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `aembed_documents`, from a thread other than the event loop's."""
        return self.endpoint.wait_from_thread(self.aembed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """As `aembed_query`, from a thread other than the event loop's."""
        return self.endpoint.wait_from_thread(self.aembed_query(text))

    async def _embed(self, texts: list[str]) -> list[list[float]]:
        payload = {"model": self.model, "input": texts, "encoding_format": "float"}
        body = await self.endpoint.post_json("/embeddings", payload)
        try:
            vectors = [item["embedding"] for item in sorted(body["data"], key=lambda item: item["index"])]
        except (KeyError, TypeError) as error:
            raise ModelUnavailable("the model endpoint's embeddings are malformed") from error
        if len(vectors) != len(texts):
            raise ModelUnavailable(f"the model endpoint sent {len(vectors)} embeddings for {len(texts)} texts")
        counts = body.get("usage")
        told = counts.get("prompt_tokens") if isinstance(counts, dict) else None
        known = told if isinstance(told, int) and told > 0 else None
        self.on_embedding(self.model, known or sum(map(count_tokens, texts)), known is None)
        return vectors
