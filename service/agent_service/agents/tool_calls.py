"""Tool calls as endpoints really send them, put into the form that OpenAI documents and ChatOpenAI reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

ToolCall = dict[str, Any]


@dataclass(slots=True)
class _Call:
    index: int
    id: str
    has_own_id: bool


class ToolCallPieces:
    """The tool calls of one streamed choice: each piece gets the index of the call that it belongs to.

    ChatOpenAI drops a piece without an index, glues names that are repeated, and takes a call without an id that no
    answer can name. Which call a piece belongs to is told by its id, else by its index, else it is the last one's; a
    piece without a name begins none.
    """

    def __init__(self) -> None:
        self._last: _Call | None = None
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[Any, _Call] = {}
        """By the index that the endpoint gave, which may be the same for all: the latest call."""

    def normal(self, pieces: Iterable[ToolCall]) -> list[ToolCall]:
        """Raises AttributeError or TypeError for what is no tool call."""
        return [self._normal(piece) for piece in pieces]

    def _normal(self, piece: ToolCall) -> ToolCall:
        function = {**(piece.get("function") or {})}
        given, index, name = piece.get("id") or "", piece.get("index"), function.get("name") or None
        call = self._known(given, index, name)
        if begins := call is None:
            call = self._begin(given, index)
        self._last = call
        function["name"] = name if begins else None
        function["arguments"] = arguments_text(function.get("arguments"))
        return {**piece, "index": call.index, "id": call.id if begins else None, "function": function}

    def _known(self, given: str, index: Any, name: str | None) -> _Call | None:
        if given and given in self._by_id:
            return self._by_id[given]
        of_index = self._last if index is None else self._by_index.get(index)
        if not name:
            return of_index or self._last
        if index is None or of_index is None:
            return None
        # the same index again: another call if it has an id of its own, else more of the same one
        return None if given and of_index.has_own_id else of_index

    def _begin(self, given: str, index: Any) -> _Call:
        call = _Call(len(self._by_id), given or new_id(), has_own_id=bool(given))
        self._by_id[call.id] = call
        if index is not None:
            self._by_index[index] = call
        return call


def normal_calls(calls: Iterable[ToolCall]) -> list[ToolCall]:
    """The tool calls of an answer that was not streamed. Raises AttributeError or TypeError for what is none."""
    return [
        {
            **call,
            "id": call.get("id") or new_id(),
            "function": {**call["function"], "arguments": arguments_text(call["function"].get("arguments"))},
        }
        for call in calls
    ]


def arguments_text(arguments: Any) -> str:
    """Arguments as JSON text, which some send as the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else orjson.dumps(arguments).decode()


def new_id() -> str:
    return f"call_{uuid4().hex}"
