"""`slipway ingest PATH`: files become searchable passages."""

import asyncio
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from langchain_core.embeddings import Embeddings

from agent_service.child_processes import Allowance, GivenUp, Workers
from agent_service.db.pool import Pool, connection
from agent_service.documents.chunk import Chunk, chunk
from agent_service.documents.discover import Discovery, Failure, Found, discover
from agent_service.documents.document import UnreadableDocument
from agent_service.documents.document_store import StoredDocument, enable_vectors, remove_missing, replace, unchanged
from agent_service.documents.embed import embed_chunks, model_name
from agent_service.documents.parse import parse

PASSAGE_VERSION: Final = b"1"
"""Part of a document's hash: another number makes every document be cut anew, after a change of parser or chunker."""

READING: Final = Allowance(seconds=120.0, cpu_seconds=120)
"""Of reading one file, in a child process: a PDF of 50 MB takes half of it, one made to be slow would take for ever."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of documents, of passages written, of documents removed as their file is gone; what was not read, and why."""

    ingested: int
    unchanged: int
    passages: int
    removed: int
    failed: tuple[Failure, ...]
    skipped: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class _Outcome:
    passages: int = 0
    unchanged: bool = False
    failure: str | None = None


async def ingest(
    paths: Sequence[Path],
    pool: Pool,
    workers: Workers,
    *,
    embeddings: Embeddings | None = None,
    on_progress: Callable[[int, int, str], None] = lambda _done, _total, _source: None,
) -> IngestReport:
    """Brings the database in line with the files of `paths`; what cannot be read is reported, and the rest goes in.

    `on_progress` gets (documents done, documents in all, source) after each.

    Raises:
        DatabaseUnavailable: the database does not answer; documents before that are in.
    """
    found = await asyncio.to_thread(discover, paths)
    failed = list(found.failed)
    if embeddings is not None and not await _vectors_enabled(pool):
        embeddings = None
        failed.append(("pgvector", "not available in this database, so documents are searchable by words only"))
    outcomes: list[_Outcome] = []
    for done, file in enumerate(found.files, 1):
        outcomes.append(await _ingest_file(file, pool, workers, embeddings))
        on_progress(done, len(found.files), file.source)
    failed += [(str(f.file), o.failure) for f, o in zip(found.files, outcomes, strict=True) if o.failure]
    return IngestReport(
        ingested=sum(1 for o in outcomes if o.passages),
        unchanged=sum(1 for o in outcomes if o.unchanged),
        passages=sum(o.passages for o in outcomes),
        removed=await _remove_gone(found, pool),
        failed=tuple(failed),
        skipped=found.skipped,
    )


async def _ingest_file(found: Found, pool: Pool, workers: Workers, embeddings: Embeddings | None) -> _Outcome:
    model = model_name(embeddings) if embeddings else None
    try:
        content = await asyncio.to_thread(found.file.read_bytes)
        content_hash = hashlib.sha256(PASSAGE_VERSION + content).hexdigest()
        async with connection(pool) as conn:
            if await unchanged(conn, found.source, content_hash, model):
                return _Outcome(unchanged=True)
        title, chunks = await workers.call(READING, _read, found.file.name, content)
    except OSError as error:
        return _Outcome(failure=error.strerror or type(error).__name__)
    except (UnreadableDocument, GivenUp) as error:
        return _Outcome(failure=f"not read: {error}" if isinstance(error, GivenUp) else str(error))
    vectors, failure = await embed_chunks(embeddings, title, chunks)
    document = StoredDocument(found.source, found.folder, title, content_hash, chunks, model, vectors)
    try:
        async with connection(pool) as conn:
            await replace(conn, document)
    except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:  # more words than an index takes, for one
        return _Outcome(failure=f"the database does not take it: {error.diag.message_primary or error}")
    return _Outcome(passages=len(chunks), failure=failure)


def _read(name: str, content: bytes) -> tuple[str, list[Chunk]]:
    with _quietly():
        document = parse(name, content)
        return document.title, chunk(document)


@contextmanager
def _quietly() -> Iterator[None]:
    """Parsers log and print what they find odd in a file; what stops them is an error, and reported."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


async def _vectors_enabled(pool: Pool) -> bool:
    async with connection(pool) as conn:
        return await enable_vectors(conn)


async def _remove_gone(found: Discovery, pool: Pool) -> int:
    present = [file.source for file in found.files]
    async with connection(pool) as conn:
        return sum([await remove_missing(conn, folder, present) for folder in sorted(found.complete)])
