"""Embedding models for the tests: meanings are topics, found by word lists."""

from langchain_core.embeddings import Embeddings

TOPICS = (("car", "automobile", "vehicle"), ("soup", "stew", "broth"), ("rain", "drizzle", "weather"))


class TopicEmbeddings(Embeddings):
    """A dimension per topic, and one for whatever else; `model` is its name."""

    def __init__(self, model: str = "topics", *, extra_dimensions: int = 1) -> None:
        self.model = model
        self.extra = extra_dimensions
        self.embedded = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += len(texts)
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        words = text.lower().split()
        return [float(sum(word in topic for word in words)) for topic in TOPICS] + [0.1] * self.extra


class DownEmbeddings(Embeddings):
    """An endpoint that does not answer."""

    model = "topics"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise ConnectionError(f"cannot embed {len(texts)} texts")

    def embed_query(self, text: str) -> list[float]:
        raise ConnectionError(f"cannot embed {len(text)} characters")
