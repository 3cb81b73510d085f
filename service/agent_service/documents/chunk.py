"""Sections cut into passages of a size that a search ranks well and a model can cite. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent_service.documents.document import Block, Document

TARGET_CHARS: Final = 1_200
"""Characters. Some 300 tokens: five passages fit a small context, and one still holds a whole thought."""

MAX_CHARS: Final = 1_800
"""Characters. A code block or table up to this stays whole; beyond it, it is cut between lines."""

SEPARATOR: Final = " › "

_SENTENCE_END: Final = re.compile(r"(?<=[.!?:;])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Chunk:
    """`section` is the path of headings, "A › B"; empty above the first heading."""

    section: str
    text: str


def chunk(document: Document) -> list[Chunk]:
    """Passages in reading order. None crosses a heading, none is longer than MAX_CHARS, and no word is lost."""
    return [Chunk(SEPARATOR.join(section.path), text) for section in document.sections for text in _pack(_pieces(section.blocks))]


def _pack(pieces: Iterator[str]) -> Iterator[str]:
    """Joins neighbours while they fit TARGET_CHARS."""
    packed = ""
    for piece in pieces:
        joined = f"{packed}\n\n{piece}" if packed else piece
        if packed and len(joined) > TARGET_CHARS:
            yield packed
            packed = piece
        else:
            packed = joined
    if packed:
        yield packed


def _pieces(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        limit = TARGET_CHARS if block.kind == "text" else MAX_CHARS
        if len(block.text) <= limit:
            yield block.text
        elif block.kind == "table":
            yield from _split_table(block.text)
        else:
            yield from _split(block.text, block.kind == "code")


def _split_table(text: str) -> Iterator[str]:
    """Every part begins with the header, where it leaves room for rows."""
    lines = text.split("\n")
    has_rule = len(lines) > 1 and set(lines[1]) <= set("|-: ")
    header = "\n".join(lines[: 2 if has_rule else 1])
    if len(header) > TARGET_CHARS // 2:
        yield from _split(text, by_line=True)
        return
    rows = _split("\n".join(lines[2 if has_rule else 1 :]), by_line=True, limit=TARGET_CHARS - len(header) - 1)
    yield from (f"{header}\n{part}" for part in rows)


def _split(text: str, by_line: bool, limit: int = TARGET_CHARS) -> Iterator[str]:
    """Parts of at most `limit` characters that end at a line or sentence end, else at a space, else anywhere."""
    start = 0
    while len(text) - start > limit:
        end = _cut(text, start, start + limit, by_line)
        yield text[start:end].rstrip()
        start = end
    yield text[start:].rstrip()


def _cut(text: str, start: int, end: int, by_line: bool) -> int:
    newline = text.rfind("\n", start + 1, end)
    if by_line and newline > start:
        return newline + 1
    ends = [m.end() for m in _SENTENCE_END.finditer(text, start + 1, end)]
    space = text.rfind(" ", start + 1, end)
    return ends[-1] if ends else space + 1 if space > start else end
