from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from agent_service.child_processes import Workers
from agent_service.db.migrate import shipped
from agent_service.db.pool import Pool
from agent_service.documents.document import Passage
from agent_service.documents.ingest import ingest
from agent_service.documents.search import DocumentSearch, fuse
from agent_service.errors import DatabaseUnavailable
from tests.service.documents.embeddings import DownEmbeddings, TopicEmbeddings

DOCS = {
    "rotation": "# Rotating keys\n\nReplace a key without a failed request.\n\n## Overlap\n\nBoth keys work for 10 minutes.",
    "drain": "# Draining\n\nOn SIGTERM a pod stops taking runs. What happens then is a hand-over to what is left.\n\n"
    "## Limits\n\nSet `streaming.maxTurnSeconds` and LEASE_SECONDS.",
    "crash": "# Crashes\n\nAfter kill -9 a peer takes the lease. It restarts from the last checkpoint.",
    "mention": "# Glossary\n\nDraining is explained elsewhere. Keys are explained elsewhere, what happens to them too.",
    "car": "# Fleet\n\nEach automobile is washed on Mondays.",
    "soup": "# Kitchen\n\nThe stew simmers for two hours.",
}


@pytest.fixture
async def docs(pool: Pool, tmp_path: Path, workers: Workers) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / f"{name}.md").write_text(text)
    await ingest([folder], pool, workers)
    return folder


async def first(pool: Pool, question: str) -> str:
    found = await DocumentSearch(pool).search(question)
    return f"{Path(found[0].source).stem}:{found[0].section}" if found else "nothing"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How do I rotate a key without any failed requests?", "rotation:"),
        ("how long do both keys overlap", "rotation:Overlap"),
        ("what happens to a run after kill -9?", "crash:"),
        ("draining", "drain"),
        ("maxTurnSeconds", "drain:Limits"),
        ("What is LEASE_SECONDS?", "drain:Limits"),
        ('"last checkpoint"', "crash:"),
        ("unheard-of", "nothing"),
        ("what is the", "nothing"),
        ("", "nothing"),
        ("' \" \\ & | ! ( ) <-> :* \0", "nothing"),
    ],
)
@pytest.mark.usefixtures("docs")
async def test_question_finds_the_passage_that_answers_it(pool: Pool, question: str, expected: str) -> None:
    assert (await first(pool, question)).startswith(expected)


@pytest.mark.usefixtures("docs")
async def test_passage_can_be_cited_and_better_ones_come_first(pool: Pool) -> None:
    found = await DocumentSearch(pool).search("overlap of keys", limit=2)

    assert found[0] == Passage("Rotating keys", "Overlap", "docs/rotation.md", "Both keys work for 10 minutes.", found[0].score)
    assert len(found) == 2
    assert found[0].score > found[1].score


@pytest.mark.usefixtures("docs")
async def test_a_passage_with_few_words_of_the_question_comes_last_and_is_marked(pool: Pool) -> None:
    found = await DocumentSearch(pool).search("Does a peer wash the automobile, forklift, tractor and lorry at Christmas?")

    assert [(Path(p.source).stem, p.weak) for p in found] == [("car", False), ("crash", True)]
    (only,) = await DocumentSearch(pool).search("forklift, tractor, lorry, gravel, peer")
    assert (Path(only.source).stem, only.weak) == ("crash", True)


async def test_vectors_leave_no_room_for_passages_with_few_words_of_the_question(
    pool: Pool, docs: Path, workers: Workers
) -> None:
    embeddings = TopicEmbeddings()
    await ingest([docs], pool, workers, embeddings=embeddings)

    assert not any(p.weak for p in await DocumentSearch(pool, embeddings).search("forklift, tractor, lorry, gravel, peer"))


async def test_meaning_finds_what_words_do_not(pool: Pool, docs: Path, workers: Workers) -> None:
    embeddings = TopicEmbeddings()
    await ingest([docs], pool, workers, embeddings=embeddings)

    assert await first(pool, "vehicle") == "nothing"
    assert (await DocumentSearch(pool, embeddings).search("vehicle"))[0].source == "docs/car.md"


async def test_passage_that_fits_by_words_and_by_meaning_comes_first(pool: Pool, docs: Path, workers: Workers) -> None:
    embeddings = TopicEmbeddings()
    await ingest([docs], pool, workers, embeddings=embeddings)

    found = await DocumentSearch(pool, embeddings).search("stew in the kitchen")

    assert found[0].source == "docs/soup.md"
    assert found[0].score == pytest.approx(2 / 61)


async def test_vectors_of_another_model_or_dimension_are_not_compared(pool: Pool, docs: Path, workers: Workers) -> None:
    await ingest([docs], pool, workers, embeddings=TopicEmbeddings("older"))

    assert await DocumentSearch(pool, TopicEmbeddings("newer")).search("vehicle") == []
    assert await DocumentSearch(pool, TopicEmbeddings("older", extra_dimensions=4)).search("vehicle") == []


async def test_search_goes_by_words_with_a_warning_while_the_endpoint_is_down(pool: Pool, docs: Path, workers: Workers) -> None:
    await ingest([docs], pool, workers, embeddings=TopicEmbeddings())

    with structlog.testing.capture_logs() as logs:
        found = await DocumentSearch(pool, DownEmbeddings()).search("stew")

    assert [p.source for p in found] == ["docs/soup.md"]
    assert [(log["log_level"], log["error"]) for log in logs] == [("warning", "ConnectionError")]


def test_fusion_adds_reciprocal_ranks_and_breaks_ties_by_id() -> None:
    def row(key: int) -> dict[str, object]:
        return {"id": key, "title": str(key), "section": "", "source": "", "text": "", "score": 0.0, "weak": False}

    fused = fuse([[row(1), row(2)], [row(2), row(3)]])

    assert [p.title for p in fused] == ["2", "1", "3"]
    assert [p.score for p in fused] == pytest.approx([1 / 61 + 1 / 62, 1 / 61, 1 / 62])


async def test_database_down_is_an_error(pool: Pool) -> None:
    await pool.close()

    with pytest.raises(DatabaseUnavailable):
        await DocumentSearch(pool).search("x")


def test_owner_who_may_not_install_pgvector_still_gets_a_schema(empty_database_url: str) -> None:
    """The migration's function, run by a user who may create tables but no extension."""
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA slipway CREATE TABLE passages (id bigint PRIMARY KEY)")
        migration = next(m.sql for m in shipped() if "enable_vector_search" in m.sql)
        start = migration.index("CREATE FUNCTION slipway.enable_vector_search")
        admin.execute(migration[start : migration.index("$$;", start) + 3].encode())
        owner = f"writer_{admin.info.dbname}"
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(owner)))
        admin.execute(SQL("GRANT ALL ON SCHEMA slipway TO {0}").format(Identifier(owner)))
        admin.execute(SQL("GRANT ALL ON slipway.passages TO {0}").format(Identifier(owner)))
        try:
            with psycopg.connect(make_conninfo(empty_database_url, user=owner), autocommit=True) as conn:
                assert conn.execute("SELECT slipway.enable_vector_search()").fetchone() == (False,)
                admin.execute("CREATE EXTENSION vector")
                assert conn.execute("SELECT slipway.enable_vector_search()").fetchone() == (True,)
        finally:
            admin.execute(SQL("DROP OWNED BY {0}").format(Identifier(owner)))
            admin.execute(SQL("DROP ROLE {0}").format(Identifier(owner)))
