"""A piece of a document, as a search returns it and `rag_search` cites it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """`score` grows with relevance; its scale is the backend's."""

    title: str
    section: str
    source: str
    text: str
    score: float
