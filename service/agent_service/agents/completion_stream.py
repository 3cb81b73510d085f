"""A chat completion that streams: bytes to events, events to chunks, chunks to one answer that ends well or breaks off."""

from typing import Any

import orjson

from agent_service.agents.completion_format import MAX_NAME_CHARS, HeldCalls, envelope, usage
from agent_service.agents.endpoint_errors import AttemptFailed, Failure, KeyRefused, stream_failure
from agent_service.agents.reasoning import Thoughts
from agent_service.errors import ModelRejected
from agent_service.nesting import MAX_LEVELS, fits

Chunk = dict[str, Any]
"""One `chat.completion.chunk` as the endpoint sent it."""

DONE = b"[DONE]"
"""Data of the last event."""

TEXT_KEYS = frozenset({"role", "content"})
"""Keys of a delta that is nothing but text."""

MAX_EVENT_BYTES = 8 * 2**20
"""An event of a completion has a few hundred bytes; one that carries a picture or speech as base64 has a few million."""


class EventDecoder:
    """Splits a byte stream into the data of its events, wherever the reads cut it.

    Each byte is looked at a fixed number of times, and an event holds at most MAX_EVENT_BYTES, whatever the endpoint sends.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        """An event that is not complete."""
        self._open_newline = False
        """The last read ended in a CR, which may be half of a CR LF."""

    def feed(self, data: bytes) -> list[bytes]:
        """Data of the events that are complete now. Comments and events without data are left out.

        Raises:
            AttemptFailed: an event is larger than MAX_EVENT_BYTES.
        """
        data = self._with_plain_newlines(data)
        if self._held:
            if b"\n\n" not in self._held[-1:] + data:
                self._hold(data)
                return []
            data = bytes(self._held) + data
            self._held.clear()
        *events, rest = data.split(b"\n\n")
        if rest:
            self._hold(rest)
        return [payload for event in events if (payload := _data(event))]

    def finish(self) -> list[bytes]:
        """Data of a last event that lacks its blank line."""
        return self.feed(b"\n\n")

    def _hold(self, data: bytes) -> None:
        if len(self._held) + len(data) > MAX_EVENT_BYTES:
            raise AttemptFailed("server_error", f"it sent an event of more than {MAX_EVENT_BYTES} bytes")
        self._held += data

    def _with_plain_newlines(self, data: bytes) -> bytes:
        if b"\r" not in data and not self._open_newline:
            return data
        data = b"\r" + data if self._open_newline else data
        self._open_newline = data.endswith(b"\r")
        return data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(event: bytes) -> bytes:
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    return b"\n".join(line[5:] for line in event.split(b"\n") if line.startswith(b"data:")).strip()


MAX_BRACKETS = 64
"""Of an ordinary chunk, which has about 8: one with more is looked at."""

MAX_CHUNK_VALUES = 200_000
"""In one event: the log probabilities of a thousand tokens that came at once have half as many."""


def parse_chunk(payload: bytes) -> Chunk:
    """A chunk with at most one choice (ChatOpenAI reads the first), which has a delta without an id.

    Some endpoints leave the delta out of the last chunk. An id in it would replace another message of the graph's state.

    Raises:
        AttemptFailed: it is not one, too deep or too large.
    """
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets > MAX_CHUNK_VALUES:
        raise AttemptFailed("server_error", f"it sent a chunk of more than {MAX_CHUNK_VALUES} objects")
    try:
        chunk: Chunk = orjson.loads(payload)
        if brackets > MAX_BRACKETS and not fits(chunk, levels=MAX_LEVELS, values=MAX_CHUNK_VALUES):
            raise ValueError("too deep or too large")  # noqa: TRY301  # as what the parser raises
        chunk["choices"] = [*(chunk.get("choices") or ())][:1]
        for choice in chunk["choices"]:
            choice["delta"] = dict(choice.get("delta") or {})
            choice["delta"].pop("id", None)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise AttemptFailed("server_error", "it sent a malformed chunk") from error
    return chunk


def has_output(chunk: Chunk) -> bool:
    """Whether the model said anything: text, a tool call, reasoning, or that it is through."""
    return any(
        choice.get("finish_reason") or any(value for key, value in choice["delta"].items() if key != "role")
        for choice in chunk.get("choices") or ()
    )


def is_text(chunk: Chunk) -> bool:
    """Whether the chunk is a piece of text and nothing else."""
    return _text_delta(chunk) is not None


def _text_delta(chunk: Chunk) -> Chunk | None:
    choices = chunk.get("choices") or []
    if len(choices) != 1 or chunk.get("usage") or choices[0].get("finish_reason") or choices[0].get("logprobs"):
        return None
    delta: Chunk = choices[0]["delta"]
    # the keys alone first: almost each token has no others, and a generator is four calls for it
    only_text = delta.keys() <= TEXT_KEYS or all(key in TEXT_KEYS or not value for key, value in delta.items())
    return delta if only_text and isinstance(delta.get("content"), str) else None


MAX_ANSWER_BYTES = 128 * 2**20
"""Of one answer on the wire: four times what the longest answers of today's models take (128,000 tokens of 250 bytes)."""

MAX_EVENTS = 500_000
"""Of one answer: four times those of the longest, with a token each. Each costs langchain 30 us and memory of its own."""

MAX_PARTS = 20_000
"""Of an answer whose content comes as lists of parts: langchain copies the list so far for each that it adds."""

LOGPROBS = ("content", "refusal")
"""Lists of tokens in a choice's `logprobs`."""


class Answer:
    """`done` once nothing more is to come; then `failure` says why, or is None after a whole answer.

    langchain gets each tool call and the log probabilities in one piece, when the model is through with them, and the thoughts
    before the text likewise: what it does with a piece costs as much as all before it.
    """

    def __init__(self) -> None:
        self.done = False
        self.failure: Failure | None = None
        self.held = 0
        """Characters of calls of tools that have come, whether handed on or not."""
        self.thoughts = Thoughts()
        self._finished = False
        self._usage: Chunk | None = None
        self._bytes = 0
        self._events = 0
        self._parts = 0
        self._calls = HeldCalls()
        self._logprobs: dict[str, list[object]] = {}
        self._decoder = EventDecoder()
        self._text: Chunk | None = None
        """The delta of the last chunk of this read, while that is nothing but text: the next text goes into it."""
        self._texts: list[str] = []
        """What it is to hold."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Chunks that one read completed, text merged; empty `data` is the end of the response."""
        chunks: list[Chunk] = []
        self._bytes += len(data)
        try:
            if self._bytes > MAX_ANSWER_BYTES:
                raise AttemptFailed("server_error", f"its answer has more than {MAX_ANSWER_BYTES} bytes")  # noqa: TRY301  # as the others
            for event in self._decoder.feed(data) if data else self._decoder.finish():
                if event == DONE:
                    self.done = True
                    break
                self._take(event, chunks)
        except (AttemptFailed, KeyRefused, ModelRejected) as failure:
            return [*chunks, *self.fail(failure)]
        finally:
            self._begin_text(None)
        if not data and not self.done:
            return [*chunks, *self.fail(AttemptFailed("connection_error", "the connection ended before the answer"))]
        return [*chunks, *self._closing()]

    def fail(self, failure: Failure) -> list[Chunk]:
        """The answer broke off here. Nothing is missing if the model has said why it stopped."""
        self.done = True
        self.failure = None if self._finished else failure
        return self._closing()

    def _take(self, event: bytes, chunks: list[Chunk]) -> None:
        self._events += 1
        if self._events > MAX_EVENTS:
            raise AttemptFailed("server_error", f"its answer has more than {MAX_EVENTS} events")
        chunk = parse_chunk(event)
        if error := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            raise stream_failure(error)
        # Some endpoints send the running total with each chunk, and ChatOpenAI adds up what it gets: only the last counts.
        if counts := chunk.pop("usage", None):
            self._usage = {**envelope(chunk), "choices": [], "usage": usage(counts)}
        if not chunk["choices"]:
            return
        choice, text = chunk["choices"][0], _text_delta(chunk)
        if text is None or self._parts or not self.thoughts.settled:
            if not self._is_to_be_said(choice):
                return
            chunk = {**envelope(chunk), "choices": [choice]} if "finish_reason" in choice else chunk
            text = _text_delta(chunk)
        if text is None or self._text is None:
            chunks.append(chunk)
            self._begin_text(text)
        if text is not None:
            self._texts.append(text["content"])

    def _begin_text(self, delta: Chunk | None) -> None:
        """From now on text goes into this delta, the one before has all of its own; None: what comes next begins a chunk."""
        if self._text is not None and len(self._texts) > 1:
            self._text["content"] = "".join(self._texts)
        self._text, self._texts = delta, []

    def _is_to_be_said(self, choice: Chunk) -> bool:
        """Whether anything is left of a choice without what is held: calls come with its finish reason, the rest at the end."""
        delta, finish = choice["delta"], choice.pop("finish_reason", None)
        if held := self._calls.take(delta, choice.get("index")):
            self.held = self._calls.characters
        if probabilities := choice.pop("logprobs", None):
            self._hold_logprobs(probabilities)
        if self._parts or not isinstance(delta.get("content") or "", str):
            delta["content"] = self._counted(delta.get("content") or [])
        held = self.thoughts.take(delta) or held
        if finish and not self._finished:
            self._finished = True
            choice["finish_reason"] = str(finish)[:MAX_NAME_CHARS]
            delta |= self._calls.whole()
            self.thoughts.end(delta)
            return True
        if self.thoughts.pieces and delta.get("content"):
            self.thoughts.before_text(delta)
        return not held or any(value for key, value in delta.items() if key != "role")

    def _hold_logprobs(self, probabilities: object) -> None:
        if isinstance(probabilities, dict):
            for key, tokens in probabilities.items():
                if isinstance(tokens, list) and key in LOGPROBS:
                    self._logprobs.setdefault(key, []).extend(tokens)

    def _counted(self, content: Any) -> str | list[object]:
        """Content of an answer that has lists of parts: text stays text as long as there is nothing else."""
        parts = content if isinstance(content, list) else [content]
        if not all(isinstance(part, str | dict) for part in parts):
            raise AttemptFailed("server_error", "it sent a malformed chunk")
        if not self._parts and all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
            return "".join(str(part.get("text") or "") for part in parts)
        self._parts += len(parts)
        if self._parts > MAX_PARTS:
            raise AttemptFailed("server_error", f"its answer has more than {MAX_PARTS} parts")
        # langchain would look for the part of that index among all before it.
        return [{k: v for k, v in part.items() if k != "index"} if isinstance(part, dict) else part for part in parts]

    def _closing(self) -> list[Chunk]:
        if not self.done:
            return []
        held = self._held() if self.failure is None else None
        return [chunk for chunk in (held, self._usage) if chunk]

    def _held(self) -> Chunk | None:
        choice: Chunk = {"index": 0, "delta": self._calls.whole()}
        self.thoughts.end(choice["delta"])
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return {"choices": [choice]} if self._logprobs or choice["delta"] else None
