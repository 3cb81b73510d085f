"""A graph's state as JSON: messages, interrupts, models, dataclasses and whatever else a channel holds."""

import base64
import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import singledispatch
from typing import Any

import orjson
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

from agent_service.runs.events import storable

OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS

INTERRUPT_KEY = "__interrupt__"
"""Of LangGraph, beside the values of a graph that has stopped: what it asks."""


def state_bytes(value: object) -> bytes:
    """UTF-8 JSON of a value of any kind. What JSON has no number or text for (NaN, more than 64 bits, half a surrogate
    pair, more than a hundred levels) becomes what `storable` makes of it."""
    try:
        return orjson.dumps(value, default=_plain, option=OPTIONS)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(storable(_all_plain(value)))


def state_json(value: object) -> Any:
    """The same as an object that can be stored in the log of events."""
    return storable(orjson.loads(state_bytes(value)))


def interrupts_json(interrupts: Any) -> list[dict[str, Any]]:
    """Of LangGraph's interrupts, or of those that a run's row holds: id and value."""
    return [i if isinstance(i, dict) else {"id": i.id, "value": i.value} for i in interrupts]


@singledispatch
def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return str(value)


@_plain.register
def _(value: BaseModel) -> Any:  # messages are models, too
    return value.model_dump()


@_plain.register
def _(value: Interrupt) -> Any:
    return {"id": value.id, "value": value.value}


@_plain.register
def _(value: Send) -> Any:
    return {"node": value.node, "arg": value.arg}


@_plain.register
def _(value: Enum) -> Any:
    return value.value


@_plain.register(bytes)
@_plain.register(bytearray)
@_plain.register(memoryview)
def _(value: bytes) -> Any:
    return base64.b64encode(value).decode()


@_plain.register
def _(value: BaseException) -> Any:  # its text may quote anything
    return type(value).__name__


@_plain.register(Mapping)
def _(value: Mapping[Any, Any]) -> Any:
    return dict(value)


@_plain.register(list)
@_plain.register(tuple)
@_plain.register(AbstractSet)
def _(value: Any) -> Any:
    return list(value)


@_plain.register(int)
@_plain.register(float)
def _(value: Any) -> Any:
    return int(value) if isinstance(value, int) else float(value)


def _all_plain(value: Any, levels: int = 100) -> Any:
    """Every object in it made plain, level by level: what `storable` reads."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not levels:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _all_plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [_all_plain(item, levels - 1) for item in value]
    return _all_plain(_plain(value), levels - 1)
