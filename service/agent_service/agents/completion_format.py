"""What an endpoint sends, cut to what langchain takes in linear time: names, usage, the arguments of a tool call."""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import jiter
import orjson

from agent_service.agents.endpoint_errors import AttemptFailed
from agent_service.agents.reasoning import apart
from agent_service.nesting import MAX_GRAPH_LEVELS, MAX_LEVELS, fits

MAX_CALLS = 128
"""Tool calls of one answer: as many as OpenAI takes tools in one request."""

MAX_CALL_CHARS = 2 * 2**20
"""Characters of all tool calls of one answer: 128,000 tokens, the longest answers of today's models, have a quarter of that."""

MAX_ID_CHARS = 16_384
"""Of a call: most have 30; some proxies put a model's signature of its thoughts there, which has a few thousand."""

MAX_NAME_CHARS = 256
"""Of tools and models. OpenAI's longest have 64; a path of a model's weights may have more."""

MAX_ARGUMENT_VALUES = 20_000
"""In the arguments of one call: a table of 1,000 rows. Each that a tool's schema refuses takes pydantic 6 us to report."""

MAX_TOKENS = 2**31 - 1
"""That a call may be billed: the ledger's column."""

MAX_ANSWER_VALUES = 5_000_000
"""In an answer that does not stream; the log probabilities of 20 alternatives to each of 16,000 tokens have 2 million."""

Json = dict[str, Any]


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def whole(self) -> Json:
        text = arguments_of_delta("".join(self.arguments))
        return {"id": self.id or None, "type": "function", "function": {"name": self.name, "arguments": text}}


class HeldCalls:
    """The tool calls of an answer, held until the model is through with them, and handed on once and whole.

    langchain looks at all arguments so far with each piece that a graph adds, and takes malformed ones apart from their end,
    a character at a time: 64 kB of them, in one piece, took it 50 to 115 s.
    """

    def __init__(self) -> None:
        self._pieces: defaultdict[Hashable, ToolCallPieces] = defaultdict(ToolCallPieces)
        """By the index of the choice."""
        self._calls: dict[Hashable, _Call] = {}
        self._function: _Call | None = None
        self._budget = _Budget()
        self._numbers = count()

    def take(self, delta: Json, choice: Hashable) -> bool:
        """Takes the calls out of a choice's delta; False if it has none.

        Raises:
            AttemptFailed: they are malformed, too many or too long.
        """
        pieces, function = delta.pop("tool_calls", None), delta.pop("function_call", None)
        if not pieces and not function:
            return False
        with _malformed_calls():
            for piece in self._pieces[choice].normal(pieces or ()):
                self._add(self._call((choice, piece["index"])), piece)
            if function:
                self._function = self._function or _Call()
                self._add(self._function, {"function": {**function, "arguments": arguments_text(function.get("arguments"))}})
        return True

    @property
    def characters(self) -> int:
        """Of all calls so far."""
        return self._budget.characters

    def whole(self) -> Json:
        """The calls so far as fields of a delta, each once; empty if there are none."""
        fields: Json = {}
        if self._calls:
            fields["tool_calls"] = [call.whole() | {"index": next(self._numbers)} for call in self._calls.values()]
        if self._function:
            fields["function_call"] = self._function.whole()["function"]
        self._calls, self._function = {}, None
        return fields

    def _call(self, key: Hashable) -> _Call:
        if key not in self._calls:
            self._budget.count_call()
            self._calls[key] = _Call()
        return self._calls[key]

    def _add(self, call: _Call, piece: Json) -> None:
        self._budget.count_piece(piece)
        call.id = call.id or piece.get("id") or ""
        call.name += piece["function"].get("name") or ""
        if len(call.name) > MAX_NAME_CHARS:
            raise TypeError("no name")
        call.arguments.append(piece["function"]["arguments"])


class _Budget:
    """What the tool calls of one answer have used up; counting raises AttemptFailed for what is too much."""

    def __init__(self) -> None:
        self._calls = self.characters = 0

    def count_call(self) -> None:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise AttemptFailed("server_error", f"its answer has more than {MAX_CALLS} tool calls")

    def count_piece(self, piece: Json) -> None:
        function = piece["function"]
        fields = (
            (piece.get("id"), MAX_ID_CHARS),
            (function.get("name"), MAX_NAME_CHARS),
            (function["arguments"], MAX_CALL_CHARS),
        )
        for text, most in fields:
            if text is not None and not (isinstance(text, str) and len(text) <= most):
                raise TypeError("no text, or too long")
            self.characters += len(text or "")
        if self.characters > MAX_CALL_CHARS:
            raise AttemptFailed("server_error", f"its answer has tool calls of more than {MAX_CALL_CHARS} characters")


@contextmanager
def _malformed_calls() -> Iterator[None]:
    try:
        yield
    except (AttributeError, TypeError, KeyError) as error:
        raise AttemptFailed("server_error", "it sent a malformed tool call") from error


def arguments_of_delta(text: str) -> str:
    """A call's arguments as langchain can parse them at its first try.

    What was cut off is closed, as langchain does. What is no JSON, too deep or too much becomes a JSON string of the text:
    langchain lists such a call as an invalid one, and calls nothing.
    """
    try:
        value, closed = json.loads(text or "{}", strict=False), text
    except (ValueError, RecursionError):
        value = _closed(text)
        closed = text if value is None else json.dumps(value)
    return json.dumps(text) if value is None or not _fits(value) else closed


def arguments_of_message(text: str) -> str:
    """The same for an answer that does not stream: there langchain closes nothing, and lists what is no JSON as invalid."""
    try:
        value = json.loads(text or "{}", strict=False)
    except (ValueError, RecursionError):
        return text
    return text if not value or (isinstance(value, dict) and _fits(value)) else f"{text}…"


def _closed(text: str) -> Json | None:
    try:
        value = jiter.from_json(text.encode(errors="replace"), partial_mode="trailing-strings")
        return value if isinstance(value, dict) and _fits(value) else None
    except (ValueError, RecursionError):
        return None


def _fits(value: object) -> bool:
    return fits(value, levels=MAX_GRAPH_LEVELS, values=MAX_ARGUMENT_VALUES)


def usage(given: object) -> Json:
    """Its counts and those of its details, as far as a ledger can hold them, in the form of OpenAI."""
    if not isinstance(given, dict):
        return {}
    details = {key: _counts(value) for key, value in given.items() if key.endswith("_details") and isinstance(value, dict)}
    counts = _counts({key: value for key, value in given.items() if not key.endswith("_details")})
    return _with_thoughts(_with_cached(counts | details))


CACHED = (
    ("cached_tokens", ("prompt_cache_hit_tokens", "cache_read_input_tokens")),
    ("cache_write_tokens", ("cache_creation_input_tokens",)),
)
"""Details of the prompt, and the fields that DeepSeek, and LiteLLM for Anthropic, have in their place."""


def _with_cached(counts: Json) -> Json:
    details = dict(counts.get("prompt_tokens_details") or {})
    details |= {name: counts[other] for name, others in CACHED for other in others if not details.get(name) and counts.get(other)}
    return {**counts, "prompt_tokens_details": details} if details else counts


def _with_thoughts(counts: Json) -> Json:
    """Gemini and Grok count thoughts in the total only; they are billed as output."""
    prompt, said = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if prompt is None or said is None or (unsaid := counts.get("total_tokens", 0) - prompt - said) <= 0:
        return counts
    read = counts.get("prompt_tokens_details") or {}
    if sum(read.get(name, 0) for name, _ in CACHED) > prompt:  # what was cached is in the total, but not in the prompt
        return counts
    details = {"reasoning_tokens": unsaid, **(counts.get("completion_tokens_details") or {})}
    return {**counts, "completion_tokens": said + unsaid, "completion_tokens_details": details}


def _counts(given: Json) -> dict[str, int]:
    return {key: value for key, value in given.items() if type(value) is int and 0 <= value <= MAX_TOKENS}


def envelope(answer: Json) -> Json:
    """What stands around the choices, names cut."""
    names = ("id", "object", "model", "service_tier", "system_fingerprint")
    return {name: value[:MAX_NAME_CHARS] for name in names if isinstance(value := answer.get(name), str)}


def completion(body: Json) -> Json:
    """A whole answer in this form; one without choices stays as it is, langchain tells what it says.

    Raises:
        AttemptFailed: it is malformed.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or body.get("error"):
        return body
    if not fits(body, levels=MAX_LEVELS, values=MAX_ANSWER_VALUES):
        raise AttemptFailed("server_error", "its answer is too deep or has too many values")
    plain = {**envelope(body), "choices": [_choice(choice) for choice in choices[:MAX_CALLS]]}
    return plain | ({"usage": counts} if (counts := usage(body.get("usage"))) else {})


def _choice(choice: object) -> Json:
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise AttemptFailed("server_error", "it sent a malformed answer")
    message = apart({key: value for key, value in choice["message"].items() if key != "id"})
    budget = _Budget()
    with _malformed_calls():
        if calls := message.get("tool_calls"):
            message["tool_calls"] = normal_calls(calls)
            for call in message["tool_calls"]:
                budget.count_call()
                budget.count_piece(call)
                call["function"]["arguments"] = arguments_of_message(call["function"]["arguments"])
        if function := message.get("function_call"):
            budget.count_piece({"function": function})
    return {**choice, "message": message}


ToolCall = dict[str, Any]


@dataclass(slots=True)
class _CallIndex:
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
        self._last: _CallIndex | None = None
        self._by_id: dict[str, _CallIndex] = {}
        self._by_index: dict[Hashable, _CallIndex] = {}
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

    def _known(self, given: str, index: Hashable, name: str | None) -> _CallIndex | None:
        if given and given in self._by_id:
            return self._by_id[given]
        of_index = self._last if index is None else self._by_index.get(index)
        if not name:
            return of_index or self._last
        if index is None or of_index is None:
            return None
        # the same index again: another call if it has an id of its own, else more of the same one
        return None if given and of_index.has_own_id else of_index

    def _begin(self, given: str, index: Hashable) -> _CallIndex:
        call = _CallIndex(len(self._by_id), given or new_id(), has_own_id=bool(given))
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


def arguments_text(arguments: object) -> str:
    """Arguments as JSON text, which some send as the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else orjson.dumps(arguments).decode()


def new_id() -> str:
    return f"call_{uuid4().hex}"
