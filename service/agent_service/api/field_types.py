"""Text as the API takes it: nothing that Postgres or a terminal cannot, with patterns that say so in the document."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from agent_service.nesting import MAX_GRAPH_LEVELS

_CONTROLS = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
_TEXT_PATTERN = f"^[^{_CONTROLS}]*$"
_QUESTION_PATTERN = rf"^[^{_CONTROLS}]*[^\s\u001c-\u001f{_CONTROLS}][^{_CONTROLS}]*$"


_FORBIDDEN = re.compile(rf"[{_CONTROLS}\ud800-\udfff]")


def _no_controls(text: str) -> str:
    if found := _FORBIDDEN.search(text):
        raise ValueError(f"control character U+{ord(found[0]):04X} is not allowed")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected some text, got only white space")
    return text


def _plain_json(value: object) -> object:
    for level, found in _walk(value, 1):
        if level > MAX_GRAPH_LEVELS:
            raise ValueError(f"expected at most {MAX_GRAPH_LEVELS} levels of objects and arrays")
        if isinstance(found, str):
            _no_controls(found)
    return value


def _walk(value: object, level: int) -> Iterator[tuple[int, object]]:
    """Every key and value with its level, those below the limit left out."""
    yield level, value
    if level > MAX_GRAPH_LEVELS or not isinstance(value, dict | list):
        return
    if isinstance(value, dict):
        yield from ((level, key) for key in value)
    for item in value.values() if isinstance(value, dict) else value:
        yield from _walk(item, level + 1)


Text = Annotated[str, AfterValidator(_no_controls), Field(json_schema_extra={"pattern": _TEXT_PATTERN})]

Question = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_no_controls),
    AfterValidator(_not_blank),
    Field(json_schema_extra={"pattern": _QUESTION_PATTERN}),
]

JsonValue = Annotated[Any, AfterValidator(_plain_json)]
"""Any JSON that can be kept: its texts without control characters, not too deep."""

JsonObject = Annotated[dict[str, Any], AfterValidator(_plain_json)]


class Body(BaseModel):
    """A request's object. Unknown fields are refused, the first of them by name: pydantic would report each."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_at_most(cls, given: Any) -> Any:
        known = cls.model_fields.keys()
        if not isinstance(given, dict) or len(given) <= len(known):
            return given
        unknown = next((name for name in given if name not in known), None)
        return {name: value for name, value in given.items() if name in known or name == unknown}


class Lenient(BaseModel):
    """An object of a protocol that grows: unknown fields are ignored, and `null` is the default wherever there is one."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


def _no_path(name: str) -> str:
    if "/" in name or "\\" in name:
        raise ValueError("expected a name without a path")
    return name


FileName = Annotated[Question, StringConstraints(max_length=200), AfterValidator(_no_path)]

OF_A_GRAPH = "x-graph-name"
"""Marks in the document where it lists the names of this process (openapi.py)."""

OF_FILES = "x-files"
"""Likewise, where it says how many it takes."""

GraphName = Annotated[Text, StringConstraints(min_length=1, max_length=64), Field(json_schema_extra={OF_A_GRAPH: True})]
"""Whether there is one of that name, RunService says, with the names that there are."""

SESSION_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
SessionId = Annotated[str, StringConstraints(pattern=SESSION_ID_PATTERN)]
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
