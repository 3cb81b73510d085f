"""Writes a chart's values.schema.json, the list of values that must be there, and the table in its README from its values.yaml
(`make chart-docs`).

The comment right above a key is its description; a line `# @schema {…}` in it adds JSON Schema, in YAML. A value whose schema has
`additionalProperties` is free in form; every other mapping is closed, so that a misspelt value is an error and not ignored.
A line `# @removed a.b …` names values that there were: the schema lets them through for a template that says what replaced them.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

CHARTS = Path(__file__).parent.parent / "charts"

REQUIRED = "files/required-values.txt"

MARK = "@schema "
REMOVED = "# @removed "
BEGIN, END = "<!-- values: written by `make chart-docs` from values.yaml -->", "<!-- end of values -->"

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
FORM = {"array": "items", "object": "additionalProperties"}
"""What says the form of an empty list or map, whose default tells nothing."""


@dataclass(frozen=True, slots=True)
class Value:
    """One key of values.yaml. A closed mapping has children, and only leaves have a description that counts."""

    path: tuple[str, ...]
    default: Any
    text: str
    extra: dict[str, Any]
    children: list["Value"] = field(default_factory=list)
    removed: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.path)


def read_values(path: Path) -> list[Value]:
    """The top-level values of a values.yaml.

    Raises:
        ValueError: a value without a description, or whose schema cannot be told; names it.
    """
    text = path.read_text(encoding="utf-8")
    values = _children(YAML().load(text), text.splitlines(), ())
    for line in text.splitlines():
        if line.startswith(REMOVED):
            for name in line.removeprefix(REMOVED).split():
                _add_removed(values, tuple(name.split(".")))
    return values


def _add_removed(values: list[Value], path: tuple[str, ...]) -> None:
    for depth in range(1, len(path)):
        values = next(value.children for value in values if value.path == path[:depth])
    values.append(Value(path, None, "", {}, removed=True))


def leaves(values: list[Value]) -> Iterator[Value]:
    for value in values:
        if value.children:
            yield from leaves(value.children)
        elif not value.removed:
            yield value


def _children(mapping: CommentedMap, lines: list[str], parent: tuple[str, ...]) -> list[Value]:
    return [_value(mapping, key, lines, (*parent, key)) for key in mapping]


def _value(mapping: CommentedMap, key: str, lines: list[str], path: tuple[str, ...]) -> Value:
    default = mapping[key]
    text, extra = _comment(lines, mapping.lc.key(key)[0])
    closed = isinstance(default, CommentedMap) and default and "additionalProperties" not in extra
    value = Value(path, default, text, extra, _children(default, lines, path) if closed else [])
    if not closed:
        _check(value)
    return value


def _comment(lines: list[str], number: int) -> tuple[str, dict[str, Any]]:
    """Description and schema from the comment that ends right above line `number`."""
    texts: list[str] = []
    extra: dict[str, Any] = {}
    while number and (line := lines[number - 1].strip()).startswith("#"):
        body = line.lstrip("#").strip()
        if body.startswith(MARK):
            extra = YAML(typ="safe").load(body.removeprefix(MARK)) | extra
        else:
            texts.insert(0, body)
        number -= 1
    return " ".join(texts), extra


def _check(value: Value) -> None:
    if not value.text:
        raise ValueError(f"{value.name}: no comment says what it is")
    kind = _type(value)
    form = FORM.get(kind) if isinstance(kind, str) else None
    if form and not value.default and form not in value.extra:
        raise ValueError(f"{value.name}: an empty {kind} needs `# @schema {{{form}: …}}`")


def _type(value: Value) -> Any:
    if "type" in value.extra:
        return value.extra["type"]
    for python, name in TYPES.items():
        if isinstance(value.default, python):
            return name
    raise ValueError(f"{value.name}: a value of null needs `# @schema {{type: …}}`")


def schema(values: list[Value]) -> dict[str, Any]:
    """JSON Schema of the whole file. `global` is there because Helm hands it to every subchart."""
    properties = {value.path[-1]: _schema(value) for value in values}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "$comment": "Written by `make chart-docs` from values.yaml."}
    return {**head, **_closed({**properties, "global": {"type": "object"}})}


def _schema(value: Value) -> dict[str, Any]:
    if value.removed:
        return {"description": "Gone: the chart says what replaced it."}
    if value.children:
        return _closed({child.path[-1]: _schema(child) for child in value.children})
    return {"type": _type(value), "description": value.text, "default": value.default, **value.extra}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def required_text(values: list[Value]) -> str:
    """Names that templates rely on, outer ones first. What may be null or empty, is a list or free in form may be missing."""
    return "".join(f"{name}\n" for name in _required(values))


def _required(values: list[Value]) -> Iterator[str]:
    for value in values:
        if value.children:
            yield value.name
            yield from _required(value.children)
        elif not value.removed and value.default != "":
            kinds = _type(value)
            if {"null", *FORM}.isdisjoint([kinds] if isinstance(kinds, str) else kinds):
                yield value.name


def schema_text(values: list[Value]) -> str:
    return json.dumps(schema(values), indent=2, ensure_ascii=False) + "\n"


def table(values: list[Value]) -> str:
    """Markdown rows of value, default, description."""
    return "\n".join(["| value | default | what |", "| --- | --- | --- |", *map(_row, leaves(values))])


def _row(value: Value) -> str:
    text = value.text.replace("|", chr(92) + "|")
    return f"| `{value.name}` | {_shown(value.default)} | {text} |"


def _shown(default: Any) -> str:
    if default in ("", [], {}):
        return ""
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def with_table(readme: str, values: list[Value]) -> str:
    """The README with the table between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(values)}\n\n{END}{after}"


def write(chart: Path) -> None:
    values, readme = read_values(chart / "values.yaml"), chart / "README.md"
    (chart / "values.schema.json").write_text(schema_text(values), encoding="utf-8")
    (chart / REQUIRED).write_text(required_text(values), encoding="utf-8")
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), values), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.parent.name for path in CHARTS.glob("*/values.yaml")):
        write(CHARTS / name)
