"""Search over ingested documents: by words, and by meaning where an embedding model is configured."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
import structlog
from langchain_core.embeddings import Embeddings

from agent_service.db.pool import Connection, Pool, connection
from agent_service.documents.chunk import TARGET_CHARS
from agent_service.documents.document import Passage
from agent_service.documents.document_store import Vector, vector_literal
from agent_service.documents.embed import embed_query, model_name

CANDIDATES: Final = 30
"""Passages per ranking that are fused: deep enough that one in the middle of both beats one at the end of either."""

RRF_K: Final = 60
"""Constant of reciprocal-rank fusion, from its paper (Cormack, Clarke, Büttcher 2009)."""

RANKED: Final = 2_000
"""Passages with the rarest words, whose text is read to rank them. Bounds that work; counting matches comes before."""

FLOOR: Final = 0.25
"""Share of the question's rarity that a passage must have: less is a word that stands in it by chance."""

NEAR_FLOOR: Final = 0.1
"""The same share for a passage that only fills up a search by words, marked as weak. Chosen on one half of
`make search-quality`: 0.15 lost answers there, and 0 won none."""

HALF_RATE: Final = 0.1
"""ts_rank at which a word counts half in a passage of usual length, as BM25's k1: between one mention in the text and two."""

LENGTH_WEIGHT: Final = 0.5
"""How much a long passage has to mention a word more often: BM25's b, 0 for not at all."""

BY_WORDS: Final[LiteralString] = """
WITH asked AS MATERIALIZED (
    SELECT websearch_to_tsquery('english', slipway.words(%(query)s)) AS strict,
           to_tsvector('english', slipway.words(%(query)s)) AS words
), word AS MATERIALIZED (
    SELECT w.query, w.real, ln(1 + (SELECT count(*) FROM slipway.passages)
                       / greatest((SELECT count(*) FROM slipway.passages p WHERE p.search @@ w.query), 1.0)) AS rarity
    FROM asked, LATERAL (SELECT quote_literal(lexeme)::tsquery AS query, lexeme ~ '[[:alnum:]]{2}' AS real
                         FROM unnest(tsvector_to_array(words)) AS lexeme) AS w
), found AS MATERIALIZED (
    SELECT p.id, sum(w.rarity) / (SELECT sum(rarity) FROM word) AS share,
           sum(w.rarity) FILTER (WHERE w.real) < %(floor)s * (SELECT sum(rarity) FROM word WHERE real) AS weak
    FROM word w JOIN slipway.passages p ON p.search @@ w.query
    GROUP BY p.id
    HAVING sum(w.rarity) FILTER (WHERE w.real) >= %(least)s * (SELECT sum(rarity) FROM word WHERE real)
    ORDER BY share DESC, p.id LIMIT %(ranked)s
), rated AS MATERIALIZED (
    SELECT f.id, f.weak, sqrt(f.share)
                 * sum(w.rarity * r.rate / (r.rate + %(half)s * (1 - %(b)s + %(b)s * length(p.text) / %(usual)s))) AS score
    FROM found f JOIN slipway.passages p USING (id) CROSS JOIN word w,
         LATERAL (SELECT ts_rank('{0.1, 0.1, 0.6, 0.4}', p.search, w.query) AS rate) AS r
    GROUP BY f.id, f.share, f.weak
)
SELECT p.id, p.title, p.section, d.source, p.text, (r.score + (p.search @@ a.strict)::int)::float AS score,
       r.weak AND NOT p.search @@ a.strict AS weak
FROM asked a, rated r JOIN slipway.passages p USING (id) JOIN slipway.documents d ON d.id = p.document_id
ORDER BY weak, score DESC, p.id
LIMIT %(limit)s
"""
"""As BM25: each word of the question counts by its rarity, by how often and how prominently (heading, title) a passage has
it, and less in a long passage; times how much of the question the passage has, and 1 more if it has all. A single letter or
digit adds to that, but finds nothing alone. Passages with less than `floor` of the question come last, as weak."""

BY_MEANING: Final[LiteralString] = """
SELECT p.id, p.title, p.section, d.source, p.text, (1 - (e.embedding <=> %(vector)s::vector))::float AS score,
       false AS weak
FROM slipway.passage_embeddings e
JOIN slipway.passages p ON p.id = e.passage_id
JOIN slipway.documents d ON d.id = p.document_id
WHERE e.model = %(model)s AND vector_dims(e.embedding) = vector_dims(%(vector)s::vector)
ORDER BY e.embedding <=> %(vector)s::vector, p.id
LIMIT %(limit)s
"""

WORD_RANKING: Final = {"ranked": RANKED, "floor": FLOOR, "half": HALF_RATE, "b": LENGTH_WEIGHT, "usual": TARGET_CHARS}

Row = Mapping[str, Any]


class DocumentSearch:
    """Searches what `ingest` stored."""

    def __init__(self, pool: Pool, embeddings: Embeddings | None = None) -> None:
        self._pool = pool
        self._embeddings = embeddings

    async def search(self, query: str, *, limit: int = 5) -> list[Passage]:
        """The passages that fit a question best, best first.

        By words alone, those that have less than FLOOR of it follow as weak ones; with less than NEAR_FLOOR none is found.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        query = query.replace("\0", " ")
        vector = await self._vector(query)
        async with connection(self._pool) as conn:
            # Vectors find what lies near by meaning; a word in common by chance would only push that back.
            bounds = {"least": NEAR_FLOOR, "limit": limit} if vector is None else {"least": FLOOR, "limit": CANDIDATES}
            by_words = await _fetch(conn, BY_WORDS, {**WORD_RANKING, **bounds, "query": query})
            if vector is None or self._embeddings is None:
                return [_passage(row, row["score"]) for row in by_words]
            by_meaning = await _nearest(conn, vector, model_name(self._embeddings))
        return fuse([by_words, by_meaning])[:limit]

    async def _vector(self, query: str) -> Vector | None:
        if self._embeddings is None:
            return None
        try:
            return await embed_query(self._embeddings, query)
        except Exception as error:  # an embedding model is anyone's code, and raises its own client's errors
            structlog.get_logger().warning("embedding_failed", error=type(error).__name__, effect="search by words only")
            return None


def fuse(rankings: Sequence[Sequence[Row]]) -> list[Passage]:
    """Reciprocal-rank fusion: the score is the sum of 1 / (RRF_K + rank) over the rankings that have the passage."""
    rows = {row["id"]: row for ranking in rankings for row in ranking}
    scores = dict.fromkeys(rows, 0.0)
    for ranking in rankings:
        for rank, row in enumerate(ranking, 1):
            scores[row["id"]] += 1 / (RRF_K + rank)
    return [_passage(rows[key], scores[key]) for key in sorted(rows, key=lambda key: (-scores[key], key))]


async def _fetch(conn: Connection, sql: LiteralString, params: Mapping[str, object]) -> list[Row]:
    return list(await (await conn.execute(sql, params)).fetchall())


async def _nearest(conn: Connection, vector: Vector, model: str) -> list[Row]:
    try:
        return await _fetch(conn, BY_MEANING, {"vector": vector_literal(vector), "model": model, "limit": CANDIDATES})
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
        structlog.get_logger().warning(
            "no_vectors", effect="search by words only", fix="run `slipway ingest` with EMBEDDING_MODEL"
        )
        return []


def _passage(row: Row, score: float) -> Passage:
    named = {name: row[name] for name in ("title", "section", "source", "text")}
    return Passage(**named, score=score, weak=row["weak"])
