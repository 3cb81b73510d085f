"""`rag_search` finds no less of the handbook than docs/operations/documents.md says, by words and with a model's vectors."""

from pathlib import Path

import pytest
from langchain_core.embeddings import Embeddings

from agent_service.child_processes import Workers
from agent_service.db.pool import Pool, make_pool
from agent_service.documents.document import Passage
from agent_service.documents.ingest import ingest
from agent_service.documents.search import DocumentSearch
from tools.search_quality.measure import HANDBOOK, SHOWN, by_halves, questions, table, unanswerable
from tools.search_quality.recorded import recorded

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "documents.md"

MODEL = "all-MiniLM-L6-v2"


async def filled(pool: Pool, workers: Workers, embeddings: Embeddings | None) -> DocumentSearch:
    report = await ingest([HANDBOOK], pool, workers, embeddings=embeddings)
    assert report.failed == ()
    return DocumentSearch(pool, embeddings)


@pytest.mark.parametrize("name", ["words", f"words and meaning ({MODEL})"])
async def test_the_page_has_the_figures_as_they_are_and_none_is_lower_than_now(
    database_url: str, workers: Workers, name: str
) -> None:
    async with make_pool(database_url, size=2, timeout=5) as pool:
        search = await filled(pool, workers, None if name == "words" else recorded())
        rows, quality = await table(name, search.search)

    page = PAGE.read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == [], "if it got better: make search-quality, and copy the table"
    assert quality.questions >= 40
    assert quality.recall >= (0.62 if name == "words" else 0.98)
    assert quality.first >= (0.47 if name == "words" else 0.68)


async def test_most_questions_that_the_handbook_does_not_answer_find_no_words_or_weak_passages(
    database_url: str, workers: Workers
) -> None:
    async with make_pool(database_url, size=2, timeout=5) as pool:
        search = await filled(pool, workers, None)
        found = [await search.search(question) for question in unanswerable()]

    nothing = sum(not passages for passages in found)
    only_weak = sum(bool(passages) and all(passage.weak for passage in passages) for passages in found)
    assert nothing + only_weak >= 8
    said = f"nothing for {nothing} of {len(found)} questions that the handbook does not answer, and only weak passages for"
    assert f"{said} {only_weak}" in " ".join(PAGE.read_text(encoding="utf-8").split())


async def test_the_half_that_no_constant_was_chosen_on_gains_by_weak_passages_too(database_url: str, workers: Workers) -> None:
    async with make_pool(database_url, size=2, timeout=5) as pool:
        search = await filled(pool, workers, None)

        async def without_weak(question: str) -> list[Passage]:
            return [passage for passage in await search.search(question) if not passage.weak]

        _, held_out = await by_halves(search.search)
        _, before = await by_halves(without_weak)

    assert held_out.recall >= before.recall + 0.15
    assert f"from {before.recall:.2f} to {held_out.recall:.2f}" in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_each_answer_stands_where_the_set_says() -> None:
    asked = questions()
    headings = {path.name: path.read_text(encoding="utf-8").splitlines() for path in HANDBOOK.iterdir()}

    assert [each for each in asked if f"## {each.section}" not in headings[each.source]] == []
    assert len({each.text for each in asked}) == len(asked)


async def test_a_search_that_finds_nothing_or_the_wrong_section_measures_as_such() -> None:
    first = questions()[0]

    async def finds_one_section(_: str) -> list[Passage]:
        other = Passage(title="", section="Elsewhere", source="handbook/tickets.md", text="", score=1.0)
        right = Passage(title="", section=first.section, source=f"handbook/{first.source}", text="", score=0.5)
        return [other, right]

    _, quality = await table("one", finds_one_section)
    answered = sum((each.source, each.section) == (first.source, first.section) for each in questions())
    assert 0 < answered < SHOWN
    assert quality.recall == answered / quality.questions
    assert quality.first == 0
    assert quality.reciprocal_rank == pytest.approx(answered / 2 / quality.questions)
