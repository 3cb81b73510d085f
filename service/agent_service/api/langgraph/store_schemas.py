"""Bodies of the store of the LangGraph wire."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, StringConstraints

from agent_service.api.field_types import Body, JsonObject, Text
from agent_service.api.langgraph.wire_schemas import Limit, Offset

MAX_LABELS = 10
"""Of a namespace."""

MAX_NAMESPACE_BYTES = 800
"""Of its labels, with dots between: with its owner's names and a key it stands in an index."""

MAX_KEY_BYTES = 500

MAX_VALUE_BYTES = 65_536
"""Of one item, as JSON."""

MAX_PAGE_ITEMS = 100
"""With values: 6.5 MB of them."""

MAX_CONDITIONS = 20
"""Of one search."""

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")

_UNFIT = re.compile(r"[.\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def labels(namespace: list[str]) -> list[str]:
    """A namespace, as it is if it is one. Raises ValueError."""
    if len(namespace) > MAX_LABELS:
        raise ValueError(f"expected at most {MAX_LABELS} labels, got {len(namespace)}")
    for label in namespace:
        if not label:
            raise ValueError("expected labels that are not empty")
        if found := _UNFIT.search(label):
            raise ValueError(f"a label must not hold U+{ord(found[0]):04X}")
    if (size := len(".".join(namespace).encode())) > MAX_NAMESPACE_BYTES:
        raise ValueError(f"expected at most {MAX_NAMESPACE_BYTES} bytes, got {size}")
    return namespace


def _key(key: str) -> str:
    if (size := len(key.encode())) > MAX_KEY_BYTES:
        raise ValueError(f"expected at most {MAX_KEY_BYTES} bytes, got {size}")
    return key


def _value(value: dict[str, Any]) -> dict[str, Any]:
    if (size := len(orjson.dumps(value))) > MAX_VALUE_BYTES:
        raise ValueError(f"expected at most {MAX_VALUE_BYTES} bytes of JSON, got {size}")
    return value


def _conditions(wanted: dict[str, Any]) -> dict[str, Any]:
    """Equal values by key, or comparisons, which LangGraph's store would take for no condition where there are none."""
    count = 0
    for key, condition in wanted.items():
        if isinstance(condition, Mapping):
            if unknown := next((name for name in condition if name not in OPERATORS), None):
                raise ValueError(f"{key}: {unknown!r} is no comparison, expected some of {', '.join(OPERATORS)}")
            if not condition:
                raise ValueError(f"{key}: expected a value or a comparison, got an empty object")
        count += len(condition) if isinstance(condition, Mapping) else 1
    if count > MAX_CONDITIONS:
        raise ValueError(f"expected at most {MAX_CONDITIONS} conditions, got {count}")
    return wanted


Label = Annotated[str, Field(max_length=MAX_NAMESPACE_BYTES)]

Labels = Annotated[list[Label], AfterValidator(labels)]

Key = Annotated[Text, StringConstraints(min_length=1), AfterValidator(_key)]

NO_INDEX = "Not supported: the store has no index for search by meaning."


class ItemPlace(Body):
    """Where an item is."""

    namespace: Annotated[Labels, Field(min_length=1)]
    key: Key


class ItemPut(ItemPlace):
    """An item to keep."""

    value: Annotated[JsonObject, AfterValidator(_value)]
    index: Literal[False] | None = Field(None, description=f"Only `false`. {NO_INDEX}")
    ttl: None = Field(None, description="Not supported: an item stays until it is deleted.")


class ItemDelete(ItemPlace):
    """An item to delete."""


class ItemSearch(Body):
    """A page of items under a namespace."""

    namespace_prefix: Labels = Field(default_factory=list)
    filter: Annotated[JsonObject, AfterValidator(_conditions)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_ITEMS)] = 10
    offset: Offset = 0
    query: None = Field(None, description=NO_INDEX)
    refresh_ttl: bool | None = None


class NamespaceSearch(Body):
    """A page of namespaces."""

    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[int, Field(ge=1, le=MAX_LABELS)] | None = None
    limit: Limit = 100
    offset: Offset = 0
