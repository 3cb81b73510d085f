"""The serialiser of checkpoints: LangGraph's own, and what that gives back as another type than it was given.

LangGraph names a class by module and `__name__` and calls it to rebuild an object. So a class within a class comes back as a
dict or a bare value, a dataclass with `init=False` fields as a dict, one with `__post_init__` goes through that again, and a
set of tuples comes back as a list (langgraph-checkpoint 4.3, serde/jsonplus.py). The node that gets it fails a turn later, or
does something else. Here such objects are written as a call of `rebuilt`, which LangGraph's reader makes as any other.
"""

import dataclasses
import importlib
from collections import deque
from enum import Enum
from functools import reduce
from typing import Any

import ormsgpack
import structlog
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_DELTA_SNAPSHOT,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send
from pydantic import BaseModel

log = structlog.stdlib.get_logger(__name__)

COLLECTIONS = (set, frozenset, deque)


class StateSerializer(JsonPlusSerializer):
    """With LANGGRAPH_STRICT_MSGPACK, which reads only what is named to it, it is LangGraph's own."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Type and bytes as LangGraph stores them."""
        if self._allowed_msgpack_modules is not True or obj is None or isinstance(obj, bytes | bytearray):
            return super().dumps_typed(obj)
        return "msgpack", _pack(obj)


def _pack(value: object) -> bytes:
    return ormsgpack.packb(value, default=_write, option=jsonplus._option)  # noqa: SLF001  # the same form, but for what is ours


def _write(value: object) -> ormsgpack.Ext | str:
    kind = type(value)
    made: ormsgpack.Ext | str
    match value:
        case BaseModel():
            dump = value.model_dump()
            stock = (kind, dump, "model_validate_json")
            made = _langgraphs(EXT_PYDANTIC_V2, *stock) if _is_found(kind) else _own(kind, "model", dump)
        case Enum() if not _is_found(kind):
            made = _own(kind, "call", (value.value,))
        case _DeltaSnapshot():
            made = ormsgpack.Ext(EXT_DELTA_SNAPSHOT, _pack(value.value))
        case tuple() if hasattr(value, "_asdict"):
            named = value._asdict()
            made = _langgraphs(EXT_CONSTRUCTOR_KW_ARGS, kind, named) if _is_found(kind) else _own(kind, "call", tuple(value))
        case Send():
            given = (value.node, value.arg, value.timeout)
            made = _langgraphs(EXT_CONSTRUCTOR_POS_ARGS, kind, given if value.timeout is not None else given[:2])
        case set() | frozenset() | deque() if kind in COLLECTIONS:
            made = _own(kind, "items", tuple(value))
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
            plain = _is_found(kind) and _is_made_of_its_fields(kind)
            made = _langgraphs(EXT_CONSTRUCTOR_KW_ARGS, kind, fields) if plain else _own(kind, "fields", fields)
        case _:
            made = jsonplus._msgpack_default(value)  # noqa: SLF001  # what LangGraph does with all other types
    return made


def _langgraphs(code: int, kind: type, *rest: Any) -> ormsgpack.Ext:
    return ormsgpack.Ext(code, _pack((kind.__module__, kind.__name__, *rest)))


def _own(kind: type, how: str, content: Any) -> ormsgpack.Ext:
    call = (__name__, rebuilt.__name__, (kind.__module__, kind.__qualname__, how, content))
    return ormsgpack.Ext(EXT_CONSTRUCTOR_POS_ARGS, _pack(call))


def _is_found(kind: type) -> bool:
    """Whether LangGraph will find the class: it looks for the name in the module alone, where generic models are, too."""
    return "." not in kind.__qualname__ or "[" in kind.__qualname__


def _is_made_of_its_fields(kind: Any) -> bool:
    """Whether a call with all fields makes the same object again."""
    return not hasattr(kind, "__post_init__") and all(field.init for field in dataclasses.fields(kind))


def rebuilt(module: str, name: str, how: str, content: Any) -> object:
    """An object of a checkpoint; its bare data where the graph's class is no more what it was. Checkpoints name this function."""
    try:
        kind = reduce(getattr, name.split("."), importlib.import_module(module))
        return _made(kind, how, content)
    except Exception as error:  # a graph's class may raise anything
        log.warning("state_value_not_restored", type=f"{module}.{name}", error=type(error).__name__)
        return content


def _made(kind: Any, how: str, content: Any) -> Any:
    match how:
        case "items":
            return kind(content if kind is deque else map(_hashable, content))
        case "call":
            return kind(*content)
        case "model":
            try:
                return kind(**content)
            except ValueError:  # as LangGraph does: what was valid when it was written may be so no more
                return kind.model_construct(**content)
    made = object.__new__(kind)
    for field, value in content.items():
        object.__setattr__(made, field, value)
    return made


def _hashable(item: object) -> object:
    """MessagePack has no tuples: within a set, an array was one."""
    return tuple(map(_hashable, item)) if isinstance(item, list) else item
