"""The context of a run (LangGraph's `Runtime.context`): from the settings and the request, checked against the graph's schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, Required, get_type_hints

import orjson
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from typing_extensions import TypedDict, is_typeddict

from agent_service.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class GraphContext:
    """`schema` is the graph's `context_schema` (a pydantic model, dataclass or TypedDict), None where it has none."""

    schema: Any = None
    defaults: Mapping[str, object] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Of the fields that the graph's context has."""
        return frozenset(get_type_hints(self.schema)) if self.schema is not None else frozenset()

    def of(self, given: Mapping[str, object] | None) -> dict[str, object] | None:
        """The context of a request's run: what it gives, over the defaults.

        Raises:
            InvalidRequest: the graph takes no context, or not this one; names the field.
        """
        if self.schema is None:
            if given is not None:
                raise _none_is_taken()
            return None
        merged = {**self.defaults, **(given or {})}
        self.refuse_unknown(merged)
        self._check(merged)
        return merged

    def refuse_unknown(self, given: Mapping[str, object]) -> None:
        """Of a part of a context. Raises InvalidRequest: a name that the graph's context does not have."""
        if not given:
            return
        if self.schema is None:
            raise _none_is_taken()
        known = get_type_hints(self.schema)
        for name in given:
            if name not in known:
                expected = ", ".join(known)
                raise InvalidRequest(f"context.{name}: not known; expected {expected}", field=f"context.{name}")

    def _check(self, merged: dict[str, object]) -> None:
        try:
            adapter = TypeAdapter[Any](_for_pydantic(self.schema))
        except PydanticSchemaGenerationError:
            return  # a schema of objects that no JSON can give: the graph says itself what is wrong
        try:
            adapter.validate_json(orjson.dumps(merged), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(["context", *map(str, first["loc"])])
            raise InvalidRequest(f"{name}: {first['msg']}", field=name) from None


def _none_is_taken() -> InvalidRequest:
    return InvalidRequest("context: this agent takes none", field="context")


def contexts_of(schemas: Sequence[Any], defaults: Mapping[str, object]) -> list[GraphContext]:
    """One for each schema; of several, each takes those defaults that it knows, and those that none knows are told to all."""
    known = [get_type_hints(schema).keys() if schema is not None else set[str]() for schema in schemas]
    strangers = defaults.keys() - {name for names in known for name in names}
    return [
        GraphContext(schema, {name: value for name, value in defaults.items() if name in names or name in strangers})
        for schema, names in zip(schemas, known, strict=True)
    ]


def _for_pydantic(schema: Any) -> Any:
    """Pydantic takes no `typing.TypedDict` on Python 3.11; one of typing_extensions with the same keys, it does."""
    if not is_typeddict(schema):
        return schema
    required = schema.__required_keys__
    hints = get_type_hints(schema)
    keys = {key: Required[hint] if key in required else NotRequired[hint] for key, hint in hints.items()}
    return TypedDict("Context", keys)  # type: ignore[operator]  # mypy wants the keys written down; these are the graph's
