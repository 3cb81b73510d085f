"""HTML as sections: the main text, without navigation, scripts and forms."""

from collections.abc import Iterator
from typing import Final

from lxml import html
from lxml.etree import ParserError
from lxml.html import HtmlElement

from agent_service.documents.document import Block, Document, Heading, UnreadableDocument, sections

_SKIPPED: Final = frozenset("script style template noscript nav header footer aside form svg iframe button head".split())  # noqa: SIM905  # reads as a list of tags
_BLOCKS: Final = frozenset(
    "address article blockquote body dd details div dl dt figcaption figure li main ol p section summary ul hr br".split()  # noqa: SIM905  # the same
)
_HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


def parse_html(text: str, fallback_title: str) -> Document:
    """Title: the first h1, <title>, or the fallback. Sections: of <main>, else of the only <article>, else of the body.

    Raises:
        UnreadableDocument: there is no element in it.
    """
    try:
        root = html.document_fromstring(text.encode(), parser=html.HTMLParser(encoding="utf-8", remove_comments=True))
    except ParserError:
        raise UnreadableDocument("no text in it") from None
    items = list(_items(_main(root)))
    first = next((item.text for item in items if isinstance(item, Heading) and item.level == 1), None)
    title = first or _one_line(root.findtext(".//title") or "") or fallback_title
    return Document(title, sections(items, title))


def _main(root: HtmlElement) -> HtmlElement:
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    return root


def _items(root: HtmlElement) -> Iterator[Block | Heading]:
    """Headings and blocks in document order; text between block elements is gathered to one block."""
    gathered: list[str] = []
    for piece in _pieces(root):
        if isinstance(piece, str):
            gathered.append(piece)
            continue
        if text := _one_line("".join(gathered)):
            yield Block(text)
        gathered = []
        if piece is not None:
            yield piece
    if text := _one_line("".join(gathered)):
        yield Block(text)


def _pieces(element: HtmlElement) -> Iterator[str | Block | Heading | None]:
    """Inline text, whole blocks, and None where one block ends and the next begins."""
    tag = element.tag
    if tag in _HEADINGS:
        yield Heading(int(str(tag)[1]), _one_line(element.text_content()))
    elif tag == "pre":
        yield Block(element.text_content().strip("\n"), "code")
    elif tag == "table":
        yield Block(_table(element), "table")
    elif tag not in _SKIPPED and isinstance(tag, str):
        yield from _inside(element)


def _inside(element: HtmlElement) -> Iterator[str | Block | Heading | None]:
    is_block = element.tag in _BLOCKS
    if is_block:
        yield None
    yield element.text or ""
    for child in element:
        yield from _pieces(child)
        yield child.tail or ""
    if is_block:
        yield None


def _table(element: HtmlElement) -> str:
    rows = [[_one_line(cell.text_content()) for cell in row.iterchildren("td", "th")] for row in element.iter("tr")]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows if any(cells))


def _one_line(text: str) -> str:
    return " ".join(text.split())
