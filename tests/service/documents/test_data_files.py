"""CSV and JSON: what belongs together stays together, and nothing hostile takes long."""

import json
from typing import Any

import pytest

from agent_service.documents.chunk import MAX_CHARS, chunk
from agent_service.documents.document import Block, Document, UnreadableDocument
from agent_service.documents.parse import parse


def texts(document: Document) -> list[tuple[tuple[str, ...], str]]:
    return [(section.path, block.text) for section in document.sections for block in section.blocks]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_is_one_table_whatever_its_delimiter(delimiter: str) -> None:
    rows = [["name", "price"], ["Tea pot", "12.50"], ["", ""], ["Cup", "3"], ["Bowl", "4"]]
    document = parse("price-list.csv", "\r\n".join(delimiter.join(row) for row in rows).encode())
    assert document.title == "price list"
    (block,) = document.sections[0].blocks
    assert block == Block("| name | price |\n| --- | --- |\n| Tea pot | 12.50 |\n| Cup | 3 |\n| Bowl | 4 |", "table")


def test_a_quoted_cell_behind_a_space_is_one_cell() -> None:
    document = parse("a.csv", b'id, name\n1, "Smith, John"\n2, "Doe, Jane"\n')
    assert document.sections[0].blocks[0].text.split("\n")[2:] == ["| 1 | Smith, John |", "| 2 | Doe, Jane |"]


def test_what_postgresql_cannot_keep_is_left_out_where_json_has_it_in_escapes() -> None:
    document = parse("a.json", rb'{"title": "a\ud800b\u0000", "k\ud800": [{"v\u0000": "x\udfffy\u0001"}]}')
    assert (document.title, texts(document)) == ("ab", [((), "title: ab"), (("k",), "v: xy")])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", json.dumps({"k" * 20_000: list(range(5_000))}).encode(), "a heading of more than 10,000 characters"),
        (
            "a.json",
            json.dumps({"a": {"k" * 9_000: [{"v": n} for n in range(6_000)]}}).encode(),
            "more than 50 million characters",
        ),
        ("a.json", json.dumps({"title": "t" * 10_001, "a": 1}).encode(), "a heading of more than 10,000 characters"),
    ],
    ids=["key", "repeated key", "title"],
)
def test_a_small_file_does_not_become_a_huge_document(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parse(name, content)


def test_the_values_of_all_lines_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_service.documents.data_files.MAX_JSON_VALUES", 1_000)
    assert len(texts(parse("a.jsonl", b"1\n" * 999))) == 999
    with pytest.raises(UnreadableDocument, match="more than 1,000 values"):
        parse("a.jsonl", b"1\n" * 1_000)


def test_cells_with_line_breaks_and_bars_stay_cells() -> None:
    document = parse("a.csv", b'name,note\nPot,"two\nlines | one bar"\nshort\nlong,a,b\n')
    lines = document.sections[0].blocks[0].text.split("\n")
    assert lines == ["| name | note |", "| --- | --- |", "| Pot | two lines \\| one bar |", "| short |", "| long | a | b |"]


def test_each_passage_of_a_long_csv_repeats_the_header() -> None:
    rows = "".join(f"city {n},{n}\n" for n in range(2_000))
    chunks = chunk(parse("a.tsv", ("city,people\n" + rows).encode()))
    assert len(chunks) > 10
    assert all(piece.text.startswith("| city | people |\n| --- | --- |\n") for piece in chunks)


def test_json_has_a_section_for_each_key_and_a_block_for_each_item() -> None:
    value = {
        "name": "Catalogue",
        "version": 3,
        "items": [{"id": 1, "tags": ["a", "b"], "size": {"w": 2}}, {"id": 2, "sold": True, "note": None}],
        "contact": {"mail": "x@example.com", "phones": [{"no": "1"}, {"no": "2"}]},
        "empty": [],
    }
    document = parse("c.json", json.dumps(value).encode())
    assert document.title == "Catalogue"
    assert texts(document) == [
        ((), "name: Catalogue\nversion: 3"),
        (("items",), "id: 1\ntags: a, b\nsize.w: 2"),
        (("items",), "id: 2\nsold: true"),
        (("contact",), "mail: x@example.com\nphones.no: 1\nphones.no: 2"),
    ]


def test_lists_lines_and_single_values_are_documents_too() -> None:
    assert texts(parse("a.json", b'["one", {"a": 2}]')) == [((), "one"), ((), "a: 2")]
    assert texts(parse("a.jsonl", b'{"a": 1}\n\n{"a": 2}\n')) == [((), "a: 1"), ((), "a: 2")]
    assert texts(parse("a.json", b'"text"')) == [((), "text")]


BAD: dict[str, tuple[str, bytes, str]] = {
    "an open quotation mark": ("a.csv", b'a,b\n"' + b"x" * 200_000, "line 2: field larger"),
    "nothing in it": ("a.csv", b"\n,,\n", "no text in it"),
    "no JSON": ("a.json", b'{"a": 1,\n  oops}', "line 2, column 3"),
    "a bad line": ("a.ndjson", b'{"a": 1}\n{"a": oops}\n', "line 2, column 7"),
    "deep JSON": ("a.json", b"[" * 100_000 + b"]" * 100_000, "too deep"),
    "JSON of 40 levels": ("a.json", b"[" * 40 + b"1" + b"]" * 40, "more than 32 levels"),
    "a long number": ("a.json", b"1" * 10_000, "number of thousands of digits"),
    "an empty object": ("a.json", b"{}", "no text in it"),
    "not UTF-8": ("a.json", b'"\xff"', "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_says_where(name: str) -> None:
    file, content, reason = BAD[name]
    with pytest.raises(UnreadableDocument, match=reason):
        parse(file, content)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({f"k{n}": {"a": n} for n in range(20_000)}).encode(),
        json.dumps(["x" * 100_000]).encode(),
        json.dumps({"a" * 5_000: {"b" * 5_000: 1}}).encode(),
    ],
)
def test_passages_of_any_json_keep_their_size(content: bytes) -> None:
    assert all(len(piece.text) <= MAX_CHARS for piece in chunk(parse("a.json", content)))


def test_a_wide_row_and_many_short_ones_take_no_more_than_they_are() -> None:
    wide: Any = ",".join("x" for _ in range(50_000)) + "\n"
    document = parse("a.csv", (wide + "a,b\n" * 50_000).encode())
    assert sum(len(text) for _, text in texts(document)) < 2_000_000
