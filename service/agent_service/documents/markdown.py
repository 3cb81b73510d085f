"""Markdown as sections: top-level blocks by their source lines, so that a passage reads as it was written."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from agent_service.documents.document import Block, Document, Heading, Kind, sections

_FRONT_MATTER: Final = re.compile(r"\A---\n(?P<fields>.*?)\n---(?:\n|\Z)", re.DOTALL)

_KINDS: Final[dict[str, Kind]] = {"fence": "code", "code_block": "code", "table_open": "table"}
_NO_BLOCKS: Final = frozenset({"bullet_list_open", "ordered_list_open", "hr"})


def parse_markdown(text: str, fallback_title: str) -> Document:
    """CommonMark with tables and YAML front matter. Title: front matter's, the first level-1 heading, or the fallback."""
    front = _FRONT_MATTER.match(text)
    named = _title(front["fields"]) if front else None
    items = list(_items(text[front.end() :] if front else text))
    first = next((item.text for item in items if isinstance(item, Heading) and item.level == 1), None)
    title = named or first or fallback_title
    return Document(title, sections(items, title))


def _title(fields: str) -> str | None:
    value = next((line.removeprefix("title:") for line in fields.split("\n") if line.startswith("title:")), "")
    return value.strip().strip("\"'").strip() or None


def _items(text: str) -> Iterator[Block | Heading]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    lines = text.split("\n")
    for index, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0:
            yield Heading(int(token.tag[1]), _plain(tokens[index + 1]))
        elif token.map and _is_block(token):
            source = "\n".join(lines[slice(*token.map)]).strip("\n").rstrip()
            if not source.startswith("<!--"):
                yield Block(source, _kind(tokens, index))


def _is_block(token: Token) -> bool:
    """Whether a block begins here: one of the top level, or an item of a list of the top level."""
    if token.level == 0:
        return token.nesting >= 0 and token.type not in _NO_BLOCKS
    return token.level == 1 and token.type == "list_item_open"


def _kind(tokens: Sequence[Token], index: int) -> Kind:
    token = tokens[index]
    if token.type != "list_item_open":
        return _KINDS.get(token.type, "text")
    end = next(i for i in range(index, len(tokens)) if tokens[i].type == "list_item_close" and tokens[i].level == token.level)
    return "code" if any(t.type in _KINDS for t in tokens[index:end]) else "text"


def _plain(inline: Token) -> str:
    return " ".join("".join(c.content or " " for c in inline.children or ()).split())
