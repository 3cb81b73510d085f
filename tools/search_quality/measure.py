"""How well a search finds the section that answers a question: recall and mean reciprocal rank."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_service.documents.document import Passage

FOLDER = Path(__file__).parent
HANDBOOK = FOLDER / "handbook"
"""Staff rules of a ferry company that does not exist. Written for this repository, and in the public domain (CC0)."""

SHOWN = 5
"""Passages that `rag_search` shows a model: what recall is measured at."""

WORDINGS = {"same": "the text's words", "other": "other words"}

HEAD = f"""\
| search | questions | asked in | recall at {SHOWN} | found first | mean reciprocal rank |
| --- | --- | --- | --- | --- | --- |"""

Search = Callable[[str], Awaitable[Sequence[Passage]]]


@dataclass(frozen=True, slots=True)
class Question:
    """`source` and `section` are where the answer stands; `wording` is one of WORDINGS."""

    text: str
    source: str
    section: str
    wording: str

    def answered_by(self, passage: Passage) -> bool:
        return passage.source.endswith(f"/{self.source}") and passage.section.endswith(self.section)


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares of the questions, 0 to 1: found among the first SHOWN, found first; the mean of 1 / rank; and what was not found."""

    questions: int
    recall: float
    first: float
    reciprocal_rank: float
    missed: tuple[str, ...]


def questions() -> list[Question]:
    """Those that the handbook answers."""
    written = _written()
    return [Question(text, at, heading, wording) for wording in WORDINGS for text, at, heading in written[wording]]


def unanswerable() -> list[str]:
    """Those that it does not."""
    return list(_written()["nowhere"])


async def by_halves(search: Search) -> list[Quality]:
    """Of every other question in other words, and of those between: constants are chosen on the first half only."""
    asked = [question for question in questions() if question.wording == "other"]
    ranks = [_rank(question, await search(question.text)) for question in asked]
    ranked = list(zip(asked, ranks, strict=True))
    return [_quality(ranked[0::2]), _quality(ranked[1::2])]


async def table(name: str, search: Search) -> tuple[list[str], Quality]:
    """Rows below HEAD for a way to search, and what it is for all questions. `search` gets each question as it stands."""
    asked = questions()
    ranks = [_rank(question, await search(question.text)) for question in asked]
    rows = [_row(name, said, _quality(_of(wording, asked, ranks))) for wording, said in WORDINGS.items()]
    everything = _quality(list(zip(asked, ranks, strict=True)))
    return [*rows, _row(name, "either", everything)], everything


def _written() -> Mapping[str, Any]:
    read: Mapping[str, Any] = yaml.safe_load((FOLDER / "questions.yaml").read_text(encoding="utf-8"))
    return read


def _rank(question: Question, passages: Sequence[Passage]) -> int:
    """1 is the first; 0 is not among SHOWN."""
    return next((number for number, passage in enumerate(passages[:SHOWN], 1) if question.answered_by(passage)), 0)


def _of(wording: str, asked: Sequence[Question], ranks: Sequence[int]) -> list[tuple[Question, int]]:
    return [each for each in zip(asked, ranks, strict=True) if each[0].wording == wording]


def _quality(ranked: Sequence[tuple[Question, int]]) -> Quality:
    found = [rank for _, rank in ranked if rank]
    return Quality(
        questions=len(ranked),
        recall=len(found) / len(ranked),
        first=found.count(1) / len(ranked),
        reciprocal_rank=sum(1 / rank for rank in found) / len(ranked),
        missed=tuple(question.text for question, rank in ranked if not rank),
    )


def _row(name: str, said: str, quality: Quality) -> str:
    return (
        f"| {name} | {quality.questions} | {said} | {quality.recall:.2f} | {quality.first:.2f} | {quality.reciprocal_rank:.2f} |"
    )
