"""CSV and JSON as documents: a row, or an object, reads as one. Pure."""

import csv
import json
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any, Final

from agent_service.documents.document import Block, Document, Section, UnreadableDocument
from agent_service.nesting import fits

DELIMITERS: Final = ",;\t|"

SNIFFED_CHARS: Final = 8_192
"""Characters of a CSV file that tell its delimiter."""

MAX_JSON_LEVELS: Final = 32
"""Of objects and arrays in each other; what exports hold has under 10."""

MAX_JSON_VALUES: Final = 5_000_000
"""Of a file; 50 MB of short numbers have more."""

TITLE_KEYS: Final = ("title", "name")


def parse_csv(text: str, title: str) -> Document:
    """One table; each of its passages repeats the first row, which names the columns.

    Raises:
        UnreadableDocument: a row cannot be told; a cell of more than 131,072 characters, as csv has it, was never closed.
    """
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True)
    try:
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UnreadableDocument(f"not CSV: line {reader.line_num}: {error}") from None
    return Document(title, (Section((), (Block(table(rows), "table"),)),) if rows else ())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first as its header; they may have any lengths."""
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def parse_json(text: str, title: str) -> Document:
    """A section for each key of the outermost object, a block for each item of a list, a line `a.b: value` for each value.

    Raises:
        UnreadableDocument: it is no JSON, too deep or has too many values.
    """
    value = _loaded(text, 1)
    named = [value[key] for key in TITLE_KEYS if isinstance(value.get(key), str)] if isinstance(value, dict) else []
    return Document(next((name.strip() for name in named if name.strip()), title), tuple(_sections(value)))


def parse_json_lines(text: str, title: str) -> Document:
    """A block for each line, which is a value of its own. Raises as `parse_json` does."""
    lines = [_loaded(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not fits(lines, levels=MAX_JSON_LEVELS + 1, values=MAX_JSON_VALUES):
        raise UnreadableDocument(f"more than {MAX_JSON_VALUES:,} values")
    return Document(title, tuple(_sections(lines)))


def _delimiter(text: str) -> str:
    try:
        return csv.Sniffer().sniff(text[:SNIFFED_CHARS], DELIMITERS).delimiter
    except csv.Error:  # one column, or prose within quotation marks
        first = text.partition("\n")[0]
        return max(DELIMITERS, key=first.count)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _loaded(text: str, first_line: int) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableDocument(f"not JSON: line {first_line + error.lineno - 1}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise UnreadableDocument("not JSON that can be read: too deep, or a number of thousands of digits") from None
    if not fits(value, levels=MAX_JSON_LEVELS, values=MAX_JSON_VALUES):
        raise UnreadableDocument(f"more than {MAX_JSON_LEVELS} levels deep, or more than {MAX_JSON_VALUES:,} values")
    return value


def _sections(value: object) -> Iterator[Section]:
    if not isinstance(value, dict):
        if blocks := _blocks(value):
            yield Section((), blocks)
        return
    if own := _blocks({key: item for key, item in value.items() if not isinstance(item, dict | list)}):
        yield Section((), own)
    for key, item in value.items():
        if isinstance(item, dict | list) and (blocks := _blocks(item)):
            yield Section((key,), blocks)


def _blocks(value: object) -> tuple[Block, ...]:
    texts = ("\n".join(_lines("", item)) for item in (value if isinstance(value, list) else [value]))
    return tuple(Block(text) for text in texts if text)


def _lines(path: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _lines(f"{path}.{key}" if path else key, item)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _lines(path, item)
    elif text := ", ".join(map(_scalar, value)) if isinstance(value, list) else _scalar(value):
        yield f"{path}: {text}" if path else text


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value)
