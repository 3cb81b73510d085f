import asyncio
import re
from pathlib import Path

import pytest

from agent_service.child_processes import Workers
from agent_service.db.pool import Pool
from agent_service.documents.ingest import IngestReport, ingest
from agent_service.documents.ingest import _read as read
from agent_service.documents.search import DocumentSearch
from agent_service.errors import DatabaseUnavailable
from tests.service.documents.embeddings import DownEmbeddings, TopicEmbeddings
from tests.service.documents.pdf import make_pdf


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    return folder


async def sources(pool: Pool) -> list[str]:
    async with pool.connection() as conn:
        rows = await (await conn.execute("SELECT source FROM slipway.documents ORDER BY source")).fetchall()
    return [row["source"] for row in rows]


async def test_folder_is_walked_for_known_kinds_without_hidden_entries(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="# A\n\nalpha")
    write(docs / "deep", b="beta")
    write(docs / ".git", c="hidden")
    (docs / ".draft.md").write_text("hidden")
    (docs / "logo.PNG").write_bytes(b"\x89PNG")
    (docs / "Makefile").write_text("all:")
    (docs / "elsewhere").symlink_to(docs / "deep")
    (docs / "manual.pdf").write_bytes(make_pdf("gamma"))

    report = await ingest([docs], pool, workers)

    reasons = {".git": "hidden", ".draft.md": "hidden", "logo.PNG": "unknown kind .png", "Makefile": "unknown kind (no suffix)"}
    skipped = {str(docs / name): reason for name, reason in {**reasons, "elsewhere": "link to a folder"}.items()}
    assert dict(report.skipped) == skipped
    assert report == IngestReport(ingested=3, unchanged=0, passages=3, removed=0, failed=(), skipped=report.skipped)
    assert await sources(pool) == ["docs/a.md", "docs/deep/b.md", "docs/manual.pdf"]


async def test_source_never_tells_where_the_folder_stands(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    docs = write(tmp_path / "docs", a="alpha")
    monkeypatch.chdir(docs)

    await ingest([Path()], pool, workers)
    await ingest([Path("../docs/a.md")], pool, workers)

    assert await sources(pool) == ["a.md", "docs/a.md"]


async def test_unchanged_documents_are_skipped_and_changed_ones_replaced(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="alpha", b="beta one\n\n# H\n\nbeta two")
    await ingest([docs], pool, workers)
    write(docs, b="gamma")

    report = await ingest([docs], pool, workers)

    assert (report.ingested, report.unchanged, report.passages) == (1, 1, 1)
    search = DocumentSearch(pool)
    assert await search.search("beta") == []
    assert [p.source for p in await search.search("gamma")] == ["docs/b.md"]


async def test_documents_whose_file_is_gone_are_removed_from_their_folder_only(
    pool: Pool, tmp_path: Path, workers: Workers
) -> None:
    docs, other = write(tmp_path / "docs", a="alpha", b="beta"), write(tmp_path / "other", c="gamma")
    await ingest([docs, other, docs / "b.md"], pool, workers)
    (docs / "b.md").unlink()

    report = await ingest([docs], pool, workers)

    assert report.removed == 1
    assert await sources(pool) == ["b.md", "docs/a.md", "other/c.md"]


async def test_folder_that_turns_up_empty_removes_nothing(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="alpha")
    await ingest([docs], pool, workers)
    (docs / "a.md").unlink()

    report = await ingest([docs], pool, workers)

    assert report.failed == ((str(docs), "no documents in this folder; nothing was removed"),)
    assert await sources(pool) == ["docs/a.md"]


async def test_bad_files_are_reported_and_the_rest_goes_in(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", good="alpha", empty="")
    (docs / "binary.md").write_bytes(b"\x89PNG\0")
    (docs / "scan.pdf").write_bytes(make_pdf(""))
    (docs / "dangling.md").symlink_to("nowhere")

    report = await ingest([docs, tmp_path / "missing", tmp_path / "missing.md"], pool, workers)

    assert report.ingested == 1
    reasons = {Path(path).name: reason for path, reason in report.failed}
    assert set(reasons) == {"empty.md", "binary.md", "scan.pdf", "dangling.md", "missing", "missing.md"}
    assert reasons["missing.md"] == reasons["dangling.md"] == "No such file or directory"
    assert await sources(pool) == ["docs/good.md"]


def test_parsers_say_nothing_of_files_that_they_can_read(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    odd = re.sub(rb"startxref\n\d+", b"startxref\n7", make_pdf("gamma"))
    assert [piece.text for piece in read("odd.pdf", odd)[1]] == ["gamma"]
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


async def test_file_that_turns_bad_keeps_what_was_stored(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="alpha")
    await ingest([docs], pool, workers)
    (docs / "a.md").write_bytes(b"\xff\xff\xff")

    report = await ingest([docs], pool, workers)

    assert [reason for _, reason in report.failed] == ["not UTF-8 text"]
    assert len(await DocumentSearch(pool).search("alpha")) == 1


async def test_two_files_of_one_name_in_one_call_are_reported_not_mixed(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    first, second = write(tmp_path / "x" / "docs", a="alpha"), write(tmp_path / "y" / "docs", a="beta")

    report = await ingest([first, first, second], pool, workers)

    assert [path for path, _ in report.failed] == [str(second / "a.md")]
    assert len(await DocumentSearch(pool).search("alpha")) == 1


async def test_progress_counts_every_document(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="alpha", b="")
    seen: list[tuple[int, int, str]] = []

    await ingest([docs], pool, workers, on_progress=lambda done, total, source: seen.append((done, total, source)))

    assert seen == [(1, 2, "docs/a.md"), (2, 2, "docs/b.md")]


async def test_two_ingests_at_once_leave_one_copy(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", **{f"n{n}": f"alpha {n}" for n in range(8)})

    await asyncio.gather(ingest([docs], pool, workers), ingest([docs], pool, workers))

    assert len(await sources(pool)) == 8
    assert len(await DocumentSearch(pool).search("alpha", limit=50)) == 8


async def test_characters_that_postgresql_cannot_store_do_not_stop_a_document(
    pool: Pool, tmp_path: Path, workers: Workers
) -> None:
    docs = write(tmp_path / "docs", a="alpha\x01\x0bomega")

    assert (await ingest([docs], pool, workers)).failed == ()
    assert [p.text for p in await DocumentSearch(pool).search("alphaomega")] == ["alphaomega"]


async def test_unchanged_documents_get_the_vectors_they_lack(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs, embeddings = write(tmp_path / "docs", a="alpha"), TopicEmbeddings()
    await ingest([docs], pool, workers)

    first = await ingest([docs], pool, workers, embeddings=embeddings)
    second = await ingest([docs], pool, workers, embeddings=embeddings)
    other_model = await ingest([docs], pool, workers, embeddings=TopicEmbeddings("newer", extra_dimensions=5))

    assert [r.ingested for r in (first, second, other_model)] == [1, 0, 1]
    assert embeddings.embedded == 1


async def test_without_the_embedding_endpoint_documents_go_in_by_words_and_are_embedded_next_time(
    pool: Pool, tmp_path: Path, workers: Workers
) -> None:
    docs = write(tmp_path / "docs", a="alpha")

    down = await ingest([docs], pool, workers, embeddings=DownEmbeddings())
    later = await ingest([docs], pool, workers, embeddings=TopicEmbeddings())

    assert (down.ingested, later.ingested, later.failed) == (1, 1, ())
    assert "ConnectionError" in down.failed[0][1]


async def test_without_pgvector_documents_go_in_by_words(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="alpha")
    async with pool.connection() as conn:
        await conn.execute("DROP EXTENSION vector CASCADE")
        await conn.execute("DROP TABLE slipway.passage_embeddings")
        await conn.execute("ALTER FUNCTION slipway.enable_vector_search() RENAME TO was")
        # As on a server without the extension's files: there CREATE EXTENSION raises this.
        await conn.execute("CREATE FUNCTION slipway.enable_vector_search() RETURNS boolean LANGUAGE sql AS 'SELECT false'")

    report = await ingest([docs], pool, workers, embeddings=TopicEmbeddings())
    found = await DocumentSearch(pool, TopicEmbeddings()).search("alpha")

    assert report.ingested == 1
    assert report.failed[0][0] == "pgvector"
    assert len(found) == 1


async def test_database_down_is_an_error(pool: Pool, tmp_path: Path, workers: Workers) -> None:
    docs = write(tmp_path / "docs", a="alpha")
    await pool.close()

    with pytest.raises(DatabaseUnavailable):
        await ingest([docs], pool, workers)
