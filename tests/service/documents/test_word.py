"""Word files: their structure is kept, and what is no Word file, or unpacks to too much, is refused."""

import struct
from collections.abc import Callable
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

import docx
import pytest
from docx.document import Document as WordDocument
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from agent_service.documents import word
from agent_service.documents.document import Block, Section, UnreadableDocument
from agent_service.documents.parse import parse


def made(fill: Callable[[WordDocument], object], title: str = "") -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    fill(document)
    document.save(file := BytesIO())
    return file.getvalue()


def zipped(parts: dict[str, bytes]) -> bytes:
    with ZipFile(file := BytesIO(), "w", ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def handbook(document: WordDocument) -> None:
    document.add_heading("Handbook", 0)
    document.add_paragraph("Before any heading.")
    document.add_heading("Holidays", 1)
    document.add_paragraph("You have 30 days.")
    document.add_heading("Carry over", 2)
    rows = [["year", "days"], ["2026", "5 | at most"]]
    for row, cells in zip(document.add_table(2, 2).rows, rows, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_paragraph("Until March.")


def test_headings_paragraphs_and_tables_are_kept() -> None:
    document = parse("x.docx", made(handbook))
    assert document.title == "Handbook"
    assert document.sections == (
        Section((), (Block("Before any heading."),)),
        Section(("Holidays",), (Block("You have 30 days."),)),
        Section(
            ("Holidays", "Carry over"),
            (Block("| year | days |\n| --- | --- |\n| 2026 | 5 \\| at most |", "table"), Block("Until March.")),
        ),
    )


def test_the_title_is_that_of_the_properties_the_first_line_or_the_file() -> None:
    assert parse("x.docx", made(handbook, "Of the properties")).title == "Of the properties"
    assert parse("my-file.docx", made(lambda document: document.add_paragraph("text"))).title == "my file"


def test_a_cell_counts_once_whatever_width_it_claims() -> None:
    def fill(document: WordDocument) -> None:
        cell = "<w:tc><w:tcPr><w:gridSpan w:val='99999999'/></w:tcPr><w:p><w:r><w:t>wide</w:t></w:r></w:p></w:tc>"
        table = parse_xml(f"<w:tbl {nsdecls('w')}><w:tblPr/><w:tblGrid/><w:tr>{cell}</w:tr></w:tbl>")
        document.element.body.insert(0, table)

    assert parse("x.docx", made(fill)).sections[0].blocks == (Block("| wide |\n| --- |", "table"),)


def of_xml(body: str) -> list[Block]:
    """The blocks of a document with this in its body."""

    def fill(document: WordDocument) -> None:
        for element in reversed(parse_xml(f"<w:body {nsdecls('w')}>{body}</w:body>")):
            document.element.body.insert(0, element)

    return [block for section in parse("x.docx", made(fill)).sections for block in section.blocks]


def run(text: str, tag: str = "t") -> str:
    return f"<w:r><w:{tag} xml:space='preserve'>{text}</w:{tag}></w:r>"


def control(content: str, properties: str = "") -> str:
    return f"<w:sdt><w:sdtPr>{properties}</w:sdtPr><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def test_changes_that_are_tracked_count_as_accepted() -> None:
    inserted = f"<w:ins w:id='1'>{run('in ')}<w:ins w:id='2'>{control(run('serted'))}</w:ins></w:ins>"
    assert of_xml(f"<w:p>{run('a ')}{inserted}<w:del w:id='3'>{run('gone', 'delText')}</w:del>{run(' z')}</w:p>") == [
        Block("a in serted z")
    ]
    moved = f"<w:p><w:moveFrom w:id='4'>{run('here')}</w:moveFrom></w:p><w:p><w:moveTo w:id='5'>{run('there')}</w:moveTo></w:p>"
    assert of_xml(moved) == [Block("there")]
    rows = [f"<w:tr>{mark}<w:tc><w:p>{run(text)}</w:p></w:tc></w:tr>" for mark, text in (("", "kept"), (DELETED_ROW, "gone"))]
    assert of_xml(f"<w:tbl><w:tblPr/><w:tblGrid/>{''.join(rows)}</w:tbl>") == [Block("| kept |\n| --- |", "table")]


DELETED_ROW = "<w:trPr><w:del w:id='1'/></w:trPr>"


def test_content_controls_and_fields_are_read_wherever_they_stand() -> None:
    paragraph = f"<w:p>{run('by ')}{control(run('Ann'))}<w:fldSimple w:instr='DATE'>{run(' in May')}</w:fldSimple></w:p>"
    cell = f"<w:tc><w:p>{run('cell')}</w:p></w:tc>"
    table = f"<w:tbl><w:tblPr/><w:tblGrid/>{control(f'<w:tr>{control(cell)}</w:tr>')}</w:tbl>"
    assert of_xml(control(control(paragraph) + table)) == [Block("by Ann in May"), Block("| cell |\n| --- |", "table")]


def test_prompts_of_empty_controls_and_tables_of_contents_are_no_text() -> None:
    contents = "<w:docPartObj><w:docPartGallery w:val='Table of Contents'/></w:docPartObj>"
    empty = control(run("Click here to enter text."), "<w:showingPlcHdr/>")
    paragraph = f"<w:p>{run('text')}{empty}</w:p>"
    assert of_xml(control(f"<w:p>{run('Holidays 3')}</w:p>", contents) + paragraph) == [Block("text")]


def test_entities_are_not_opened() -> None:
    good = made(lambda document: document.add_paragraph("HERE"))
    with ZipFile(BytesIO(good)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    xml = parts["word/document.xml"].replace(b"HERE", b"a&file;b").partition(b"?>")[2]
    bad = b'<!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]>' + xml
    assert "root" not in str(parse("x.docx", zipped({**parts, "word/document.xml": bad})))


def _lying() -> bytes:
    """A part that says that it unpacks to 10 bytes, and has a million."""
    whole = zipped({"word/document.xml": b"x" * 1_000_000})
    return whole.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10))


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "an old or encrypted file": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512, "not a .docx"),
    "text": (lambda: b"no zip", "not a .docx"),
    "a zip of something else": (lambda: zipped({"a.txt": b"x"}), "not a readable Word document"),
    "no paragraph": (lambda: made(lambda _: None), "no text in it"),
    "cut off": (lambda: made(handbook)[:-400], "not a .docx"),
    "a part that lies of its size": (_lying, "not a readable Word document"),
    "a bomb": (lambda: zipped({"word/document.xml": b"x" * (word.MAX_XML_BYTES + 1)}), "more than 50 MB"),
    "many parts": (lambda: zipped({str(n): b"" for n in range(word.MAX_PARTS + 1)}), "10,000 parts"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_word_file_is_refused(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(UnreadableDocument, match=reason):
        parse("x.docx", make())


def test_many_parts_of_a_bomb_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word, "MAX_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(UnreadableDocument, match="more than 1 MB"):
        parse("x.docx", zipped({f"media/{n}.png": b"x" * 400_000 for n in range(3)}))
