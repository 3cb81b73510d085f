"""Embeddings of the same endpoint, over the same connections and keys as the chat models."""

from dataclasses import dataclass

from langchain_core.embeddings import Embeddings

from agent_service.agents.endpoint import ModelEndpoint
from agent_service.errors import ModelUnavailable

BATCH_SIZE = 64
"""Texts per request: 64 passages of 1,000 tokens stay far under OpenAI's limit of 300,000 tokens a request."""


@dataclass(frozen=True, slots=True)
class EndpointEmbeddings(Embeddings):
    """Raises ModelUnavailable and ModelRejected as the chat models do."""

    endpoint: ModelEndpoint
    model: str

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, in order."""
        batches = [texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
        return [vector for batch in batches for vector in await self._embed(batch)]

    async def aembed_query(self, text: str) -> list[float]:
        return (await self._embed([text]))[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `aembed_documents`, from a thread other than the event loop's."""
        return self.endpoint.wait_from_thread(self.aembed_documents(texts))

    def embed_query(self, text: str) -> list[float]:
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
        return vectors
