"""Vectors that a real embedding model gave for the set, kept in `vectors.json`: the same figures on every machine, offline."""

import base64
import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from langchain_core.embeddings import Embeddings

FILE = Path(__file__).parent / "vectors.json"

STEPS = 127
"""A number is kept as one of so many steps of the vector's largest one, in a byte: cosines move by less than 0.01."""


class RecordedEmbeddings(Embeddings):
    """`model` is the one that was asked."""

    def __init__(self, model: str, vectors: Mapping[str, str]) -> None:
        self.model = model
        self._vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Raises LookupError for a text that was not recorded."""
        kept = self._vectors.get(_key(text))
        if kept is None:
            raise LookupError(f"no vector of {text[:60]!r}: run `make search-quality ARGS=--record` with an endpoint")
        return [float(each) for each in array("b", base64.b85decode(kept))]


class Recorder(Embeddings):
    """Asks another one, and keeps what it says."""

    def __init__(self, asked: Embeddings, model: str) -> None:
        self.asked = asked
        self.model = model
        self.vectors: dict[str, str] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError("the search asks without waiting")

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError("the search asks without waiting")

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors = await self.asked.aembed_documents(texts)
        self.vectors |= {_key(text): _packed(vector) for text, vector in zip(texts, vectors, strict=True)}
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        vector = await self.asked.aembed_query(text)
        self.vectors[_key(text)] = _packed(vector)
        return vector

    def save(self) -> None:
        """As what RecordedEmbeddings takes."""
        FILE.write_text(
            json.dumps({"model": self.model, "vectors": self.vectors}, indent=0, sort_keys=True) + "\n", encoding="utf-8"
        )


def recorded() -> RecordedEmbeddings:
    """Those of the file."""
    return RecordedEmbeddings(**json.loads(FILE.read_text(encoding="utf-8")))


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _packed(vector: Sequence[float]) -> str:
    largest = max(map(abs, vector))
    return base64.b85encode(array("b", (round(each / largest * STEPS) for each in vector)).tobytes()).decode()
