"""Files as documents: Markdown, text, HTML, PDF, Word, CSV, JSON."""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from agent_service.documents.data_files import parse_csv, parse_json, parse_json_lines
from agent_service.documents.document import Block, Document, Section, UnreadableDocument
from agent_service.documents.html import parse_html
from agent_service.documents.markdown import parse_markdown

MAX_FILE_BYTES: Final = 50_000_000
"""Bytes. A file is parsed in memory, and text of that size would fill a search with 40,000 passages of one source."""

MAX_HEADING_CHARS: Final = 10_000
"""Of a title, or of one heading: each passage below repeats it. JSON has its keys here."""

_UNSTORABLE: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\ud800-\udfff]")
"""Control characters and lone surrogates: PDFs have them, PostgreSQL text cannot."""


def parse(name: str, content: bytes) -> Document:
    """The document in a file's bytes; `name` decides the format and is the title where the file has none.

    Raises:
        UnreadableDocument: unknown kind, wrong encoding, encrypted, no text.
    """
    path = PurePath(name)
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        raise UnreadableDocument(f"unknown kind of file; known are {', '.join(PARSERS)}")
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableDocument(f"larger than {MAX_FILE_BYTES // 1_000_000} MB")
    document = _storable(parser(content, _title_of(path)))
    if not any(block.text.strip() for section in document.sections for block in section.blocks):
        raise UnreadableDocument("no text in it")
    if sum(len(block.text) for section in document.sections for block in section.blocks) > MAX_FILE_BYTES:
        raise UnreadableDocument(f"more than {MAX_FILE_BYTES // 1_000_000} million characters of text")
    if any(len(name) > MAX_HEADING_CHARS for name in (document.title, *(h for each in document.sections for h in each.path))):
        raise UnreadableDocument(f"a heading of more than {MAX_HEADING_CHARS:,} characters")
    return document


def _storable(document: Document) -> Document:
    """Without what PostgreSQL cannot keep, wherever it comes from: JSON has it in escapes, a PDF in its title."""
    return Document(
        _clean(document.title),
        tuple(
            Section(tuple(map(_clean, each.path)), tuple(Block(_clean(block.text), block.kind) for block in each.blocks))
            for each in document.sections
        ),
    )


def _clean(text: str) -> str:
    return _UNSTORABLE.sub("", text)


def _title_of(path: PurePath) -> str:
    return re.sub(r"[-_]+", " ", path.stem).strip() or path.name


def _text(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableDocument("not UTF-8 text") from None
    if "\0" in text:
        raise UnreadableDocument("binary, not text")
    return _clean(text.replace("\r\n", "\n").replace("\r", "\n"))


def _markdown(content: bytes, title: str) -> Document:
    return parse_markdown(_text(content), title)


def _plain(content: bytes, title: str) -> Document:
    paragraphs = re.split(r"\n\s*\n", _text(content))
    return Document(title, (Section((), tuple(Block(p.strip("\n")) for p in paragraphs if p.strip())),))


def _html(content: bytes, title: str) -> Document:
    return parse_html(_html_text(content), title)


def _html_text(content: bytes) -> str:
    declared = re.search(rb"<meta[^>]+charset=[\"']?([\w-]+)", content[:1024], re.IGNORECASE)
    try:
        return _text(content)
    except UnreadableDocument:
        if declared is None:
            raise
    try:
        return _clean(content.decode(declared[1].decode()))
    except (UnicodeDecodeError, LookupError):
        raise UnreadableDocument(f"not {declared[1].decode()} text, as it says") from None


def _pdf(content: bytes, title: str) -> Document:
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocument("encrypted")
        pages = [page.extract_text() for page in reader.pages]
        name = reader.metadata.title if reader.metadata else None
    except (PyPdfError, ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError) as error:
        # A damaged file trips pypdf in as many ways as it can be damaged.
        raise UnreadableDocument(f"not a readable PDF ({type(error).__name__})") from error
    if not any(page.strip() for page in pages):
        raise UnreadableDocument("no text in it: a scan needs OCR first")
    return Document((name or "").strip() or title, tuple(_page(n, text) for n, text in enumerate(pages, 1) if text.strip()))


def _csv(content: bytes, title: str) -> Document:
    return parse_csv(_text(content), title)


def _json(content: bytes, title: str) -> Document:
    return parse_json(_text(content), title)


def _json_lines(content: bytes, title: str) -> Document:
    return parse_json_lines(_text(content), title)


def _page(number: int, text: str) -> Section:
    return Section((f"page {number}",), tuple(Block(part.strip()) for part in re.split(r"\n\s*\n", text) if part.strip()))


def _docx(content: bytes, title: str) -> Document:
    from agent_service.documents.word import parse_docx  # noqa: PLC0415  # python-docx: 60 modules, only where a file is parsed

    return parse_docx(content, title)


PARSERS: Final[Mapping[str, Callable[[bytes, str], Document]]] = MappingProxyType(
    {
        ".md": _markdown,
        ".markdown": _markdown,
        ".txt": _plain,
        ".text": _plain,
        ".html": _html,
        ".htm": _html,
        ".pdf": _pdf,
        ".docx": _docx,
        ".csv": _csv,
        ".tsv": _csv,
        ".json": _json,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
    }
)
"""By suffix; a folder's other files are left out."""
