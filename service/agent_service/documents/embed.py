"""Vectors of passages and queries, from any LangChain embedding model."""

import asyncio
from collections.abc import Sequence
from typing import Final

from langchain_core.embeddings import Embeddings

from agent_service.documents.chunk import Chunk
from agent_service.documents.document_store import Vector

QUERY_SECONDS: Final = 5.0
"""Seconds a search waits for the endpoint before it goes by words alone; well under TOOL_TIMEOUT, which would end the search."""


def model_name(embeddings: Embeddings) -> str:
    """Under which its vectors are stored: vectors of two models cannot be compared."""
    return str(getattr(embeddings, "model", None) or type(embeddings).__name__)


async def embed_chunks(
    embeddings: Embeddings | None, title: str, chunks: Sequence[Chunk]
) -> tuple[list[list[float]] | None, str | None]:
    """Vectors, one per chunk, and why there are none. Title and section belong to what a passage is about."""
    if embeddings is None:
        return None, None
    try:
        vectors = await embeddings.aembed_documents([f"{title}\n{c.section}\n{c.text}" for c in chunks])
    except Exception as error:  # an embedding model is anyone's code, and raises its own client's errors
        return None, f"searchable by words only: the embedding endpoint failed ({type(error).__name__})"
    if len(vectors) != len(chunks):
        return None, f"searchable by words only: the embedding endpoint gave {len(vectors)} vectors for {len(chunks)} passages"
    return vectors, None


async def embed_query(embeddings: Embeddings, query: str) -> Vector:
    """Raises whatever the endpoint's client raises, TimeoutError among it."""
    async with asyncio.timeout(QUERY_SECONDS):
        return await embeddings.aembed_query(query)
