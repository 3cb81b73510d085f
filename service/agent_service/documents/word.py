"""Word's .docx as a document, with its changes accepted: headings, paragraphs, tables. Pure, but for python-docx."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final
from zipfile import BadZipFile, ZipFile

import docx
from docx.document import Document as WordDocument
from docx.opc.exceptions import OpcError
from docx.oxml.table import CT_Tbl, CT_Tc
from docx.oxml.text.paragraph import CT_P
from docx.text.paragraph import Paragraph
from lxml import etree

from agent_service.documents.data_files import table
from agent_service.documents.document import Block, Document, Heading, UnreadableDocument, sections

MAX_UNPACKED_BYTES: Final = 200_000_000
"""Of all parts together, pictures among them: python-docx unpacks each."""

MAX_XML_BYTES: Final = 50_000_000
"""Of one part that is XML, which takes ten times as much memory once it is read."""

MAX_PARTS: Final = 10_000

HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
"""Names of Word's own styles, in a file of any language."""

REMOVED: Final = (
    "//w:del | //w:moveFrom | //w:tr[w:trPr/w:del] | //w:tc[w:tcPr/w:cellDel]"
    " | //w:sdt[w:sdtPr/w:showingPlcHdr]"
    " | //w:sdt[w:sdtPr/w:docPartObj/w:docPartGallery[starts-with(@w:val, 'Table of ')]]"
)
"""What somebody deleted or moved away while changes were tracked; "Click here to enter text"; tables of contents, whose words
stand in the headings themselves."""

WRAPPERS: Final = (
    "//w:ins | //w:moveTo | //w:sdt | //w:sdtContent | //w:sdtPr | //w:sdtEndPr | //w:smartTag | //w:customXml | //w:fldSimple"
)
"""Around runs, paragraphs, rows and cells: insertions that are tracked, content controls, fields. python-docx looks into none."""

WITHOUT_TEXT: Final = ("sdtPr", "sdtEndPr")
"""Of these: what a content control says of itself."""


def parse_docx(content: bytes, title: str) -> Document:
    """Raises UnreadableDocument: it is no .docx, encrypted, damaged, or unpacks to too much."""
    _check_size(content)
    try:
        word = docx.Document(BytesIO(content))
        _accept_changes(word)
        name = (word.core_properties.title or "").strip()
        items = [item for item in _items(word) if item.text.strip()]
    except (OpcError, BadZipFile, etree.LxmlError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # A damaged file trips python-docx in as many ways as it can be damaged.
        raise UnreadableDocument(f"not a readable Word document ({type(error).__name__})") from error
    first = next((item.text for item in items if isinstance(item, Heading) and item.level == 0), "")
    found = name or first or title
    return Document(found, sections([item for item in items if not (isinstance(item, Heading) and item.level == 0)], found))


def _check_size(content: bytes) -> None:
    """Before anything is unpacked. What a part says of its size binds: zipfile reads no more."""
    try:
        with ZipFile(BytesIO(content)) as archive:
            parts = archive.infolist()
    except (BadZipFile, ValueError, NotImplementedError):
        raise UnreadableDocument("not a .docx: encrypted, or of another kind") from None
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
        raise UnreadableDocument(f"unpacks to more than {MAX_UNPACKED_BYTES // 1_000_000} MB, or {MAX_PARTS:,} parts")
    if any(part.file_size > MAX_XML_BYTES and part.filename.endswith((".xml", ".rels")) for part in parts):
        raise UnreadableDocument(f"has a part that unpacks to more than {MAX_XML_BYTES // 1_000_000} MB")


def _accept_changes(word: WordDocument) -> None:
    """Leaves the text that a reader of the printed page sees, where python-docx finds it."""
    body = word.element.body
    for element in body.xpath(REMOVED):
        element.getparent().remove(element)
    for element in reversed(body.xpath(WRAPPERS)):  # from inside out
        if etree.QName(element).localname not in WITHOUT_TEXT:
            for child in list(element):
                element.addprevious(child)
        element.getparent().remove(element)


def _items(word: WordDocument) -> Iterator[Block | Heading]:
    for part in word.element.body.iterchildren():
        if isinstance(part, CT_P):
            yield _paragraph(Paragraph(part, word))
        elif isinstance(part, CT_Tbl) and (rows := _rows(part, word)):
            yield Block(table(rows), "table")


def _paragraph(paragraph: Paragraph) -> Block | Heading:
    style = (paragraph.style.name if paragraph.style else None) or ""
    if heading := HEADING.fullmatch(style):
        return Heading(int(heading[1]), paragraph.text.strip())
    return Heading(0, paragraph.text.strip()) if style.lower() == "title" else Block(paragraph.text)


def _rows(element: CT_Tbl, word: WordDocument) -> list[list[str]]:
    """Cells as they stand in the file: a merged one once, whatever width it claims."""
    return [[_text(cell, word) for cell in row.tc_lst] for row in element.tr_lst]


def _text(cell: CT_Tc, word: WordDocument) -> str:
    return " ".join(Paragraph(part, word).text for part in cell.iter() if isinstance(part, CT_P))
