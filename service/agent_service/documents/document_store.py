"""Documents and passages in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from agent_service.db.pool import Connection
from agent_service.documents.chunk import Chunk

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What stands for one file. `vectors` has one per chunk, or is None where there is no embedding model."""

    source: str
    folder: str | None
    title: str
    content_hash: str
    chunks: Sequence[Chunk]
    model: str | None = None
    vectors: Sequence[Vector] | None = None


async def enable_vectors(conn: Connection) -> bool:
    """Whether vectors can be stored, after trying to set pgvector up."""
    row = await (await conn.execute("SELECT slipway.enable_vector_search() AS enabled")).fetchone()
    return bool(row and row["enabled"])


async def unchanged(conn: Connection, source: str, content_hash: str, model: str | None) -> bool:
    """Whether this content is stored already, with vectors of `model` if that is given."""
    document = await (
        await conn.execute("SELECT id FROM slipway.documents WHERE source = %s AND content_hash = %s", (source, content_hash))
    ).fetchone()
    if document is None or model is None:
        return document is not None
    missing = await conn.execute(
        "SELECT 1 FROM slipway.passages p WHERE document_id = %s AND NOT EXISTS"
        " (SELECT FROM slipway.passage_embeddings WHERE passage_id = p.id AND model = %s) LIMIT 1",
        (document["id"], model),
    )
    return await missing.fetchone() is None


async def replace(conn: Connection, document: StoredDocument) -> None:
    """Stores the document in place of what its source held before; a search sees the one or the other."""
    async with conn.transaction():
        # DO UPDATE, not DELETE and INSERT: its row lock makes two ingests of one source take turns.
        row = await (
            await conn.execute(
                "INSERT INTO slipway.documents (source, folder, title, content_hash) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (source) DO UPDATE SET (folder, title, content_hash, ingested_at)"
                " = (EXCLUDED.folder, EXCLUDED.title, EXCLUDED.content_hash, now()) RETURNING id",
                (document.source, document.folder, document.title, document.content_hash),
            )
        ).fetchone()
        assert row is not None  # noqa: S101  # RETURNING of an upsert
        await conn.execute("DELETE FROM slipway.passages WHERE document_id = %s", (row["id"],))
        passages = await _insert_passages(conn, row["id"], document)
        if document.vectors is not None:
            await _insert_vectors(conn, passages, document.model, document.vectors)


async def _insert_passages(conn: Connection, document_id: int, document: StoredDocument) -> list[int]:
    rows = await conn.execute(
        "INSERT INTO slipway.passages (document_id, position, title, section, text)"
        " SELECT %s, position, %s, section, text"
        " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS c(section, text, position) RETURNING id, position",
        (document_id, document.title, [c.section for c in document.chunks], [c.text for c in document.chunks]),
    )
    return [row["id"] for row in sorted(await rows.fetchall(), key=itemgetter("position"))]


async def _insert_vectors(conn: Connection, passages: Sequence[int], model: str | None, vectors: Sequence[Vector]) -> None:
    await conn.execute(
        "INSERT INTO slipway.passage_embeddings (passage_id, model, embedding)"
        " SELECT id, %s, embedding::vector FROM unnest(%s::bigint[], %s::text[]) AS v(id, embedding)",
        (model, list(passages), [vector_literal(v) for v in vectors]),
    )


async def remove_missing(conn: Connection, folder: str, present: Sequence[str]) -> int:
    """Removes documents of `folder` whose source is not among `present`. Returns how many."""
    result = await conn.execute(
        "DELETE FROM slipway.documents WHERE folder = %s AND source <> ALL(%s::text[])", (folder, list(present))
    )
    return result.rowcount


def vector_literal(vector: Vector) -> str:
    """pgvector's input form."""
    return f"[{','.join(map(str, vector))}]"
