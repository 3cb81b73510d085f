"""A parsed document: what every format becomes before it is cut into passages."""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "code", "table"]

WEAK_NOTE: Final = (
    "These have only a few words of the question and may not answer it. Search again with other words for the same thing."
)
"""What a model reads before weak passages."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece that reads as one: a paragraph, a list item, a code block, a table (a line per row)."""

    text: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under one heading; `path` holds the headings above them, outermost first, without the title."""

    path: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, whatever its format was."""

    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` 1 is the outermost."""

    level: int
    text: str


class UnreadableDocument(Exception):
    """The file is not what its name says, or holds no text; the message says which."""


def sections(items: list[Block | Heading], title: str) -> tuple[Section, ...]:
    """Groups blocks under their headings. A heading equal to `title` adds nothing to a path."""
    found: list[Section] = []
    path: list[Heading] = []
    blocks: list[Block] = []
    for item in [*items, Heading(0, "")]:
        if isinstance(item, Block):
            blocks.append(item)
            continue
        if blocks:
            found.append(Section(tuple(h.text for h in path if h.text != title), tuple(blocks)))
            blocks = []
        path = [*(h for h in path if h.level < item.level), item]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Passage:
    """`score` grows with relevance; its scale is the backend's. `weak`: it has only a few words of the question."""

    title: str
    section: str
    source: str
    text: str
    score: float
    weak: bool = False
