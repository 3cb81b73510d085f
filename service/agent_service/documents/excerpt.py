"""The part of a passage that answers a question: whole sentences, list items and table rows. Pure."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = "…"
"""Stands where text was left out."""

READ_CHARS: Final = 4_000
"""Characters; passages have 1,800, and the parts of a text are joined and measured one by one: 0.1 s for these."""

_WORD: Final = re.compile(r"[^\W_]+")
_SENTENCE: Final = re.compile(r"(?<=[.!?])(?<!\d\.)\s+(?=[\"'(*`A-Z])")
_ENDING: Final = re.compile(r"(?:ings?|ions?|ed|ies|es|s|y|e)$")
_COMMON: Final = frozenset(
    "a about an and are as at be by can do does for from get happens has have how i if in into is it its long many me much my"  # noqa: SIM905  # a list of 60 literals reads worse
    " no not of on one or our please some tell that the their them then there this to use was we what when where which who why"
    " will with you your".split()
)
"""Words of questions that say nothing about their subject."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is quoted whole or not at all. Units of one block stand next to each other, parted by `joint`."""

    text: str
    block: int
    joint: str
    header: str = ""


def stems(text: str) -> set[str]:
    """Words without case and ending, common ones left out: enough to match "rotate" and "rotation"."""
    words = _WORD.findall(text.lower().replace("_", " "))
    return {_ENDING.sub("", word) if len(word) > 4 else word.removesuffix("s") for word in words if word not in _COMMON}  # noqa: PLR2004  # "ion" is no ending of "lion"


def excerpt(text: str, question: str, chars: int) -> str:
    """At most `chars` characters of `text`: what shares the rarest words with the question, in reading order.

    Of the text the first READ_CHARS are looked at. A table keeps its header and the rows that match. Only a sentence or row
    longer than `chars` is cut, at a word.
    """
    if len(text) <= chars:
        return text
    units, asked = list(_units(text[:READ_CHARS])), stems(question[:READ_CHARS])
    if not units:
        return ""
    scores = _scores(units, asked)
    best = max(range(len(units)), key=lambda i: (scores[i], -i))
    wanted = sorted(range(len(units)), key=lambda i: (-scores[i], abs(i - best), i))
    kept = {best}
    asked_header = {header: bool(asked & stems(header)) for header in {unit.header for unit in units}}
    for i in wanted:
        noise = units[i].header and scores[i] == 0 and not asked_header[units[i].header]
        if not noise and len(_join(units, sorted(kept | {i}))) <= chars:
            kept.add(i)
    return _cut(_join(units, sorted(kept)), chars)


def _units(text: str) -> Iterator[_Unit]:
    for number, block in enumerate(_blocks(text)):
        lines = block.split("\n")
        if block.startswith("|"):
            rule = len(lines) > 1 and set(lines[1]) <= set("|-: ")
            header = "\n".join(lines[: 2 if rule else 0])
            yield from (_Unit(row, number, "\n", header) for row in lines[2 if rule else 0 :])
        elif block.startswith("```"):
            yield _Unit(block, number, "\n")
        else:
            yield from (_Unit(sentence, number, " ") for sentence in _SENTENCE.split(block))


def _blocks(text: str) -> Iterator[str]:
    """Parts between blank lines; a fenced code block is one, whatever is in it."""
    for index, part in enumerate(re.split(r"(^```.*?^```[^\n]*$|^```.*\Z)", text, flags=re.MULTILINE | re.DOTALL)):
        yield from [part] if index % 2 else (block.strip() for block in re.split(r"\n\s*\n", part) if block.strip())


def _scores(units: Sequence[_Unit], asked: set[str]) -> list[float]:
    """Of each unit the rarity of the asked words it has, for its length: a long one has more words by chance."""
    found = [asked & stems(unit.text) for unit in units]
    count = Counter(word for words in found for word in words)
    return [
        sum(math.log(1 + len(units) / count[word]) for word in sorted(words)) / (1 + math.log(1 + len(unit.text) / 200))
        for words, unit in zip(found, units, strict=True)
    ]


def _join(units: Sequence[_Unit], kept: Sequence[int]) -> str:
    out = ""
    for previous, i in zip([None, *kept], kept, strict=False):
        unit = units[i]
        if previous is None or units[previous].block != unit.block:
            out += ("\n\n" if out else "") + (f"{unit.header}\n" if unit.header else "")
        elif previous != i - 1 and unit.joint == " ":
            out += f" {GAP} "
        else:
            out += unit.joint
        out += unit.text
    return out


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else " ".join([*text[: chars - 1].rsplit(maxsplit=1)[:1], GAP])[:chars]
