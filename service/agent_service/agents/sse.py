"""Server-sent events of a chat completion: bytes to events, events to chunks, chunks merged."""

from collections.abc import Iterable
from typing import Any

import orjson

from agent_service.agents.failures import AttemptFailed
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
        if b"\n\n" not in self._held[-1:] + data:
            self._hold(data)
            return []
        *events, rest = (bytes(self._held) + data).split(b"\n\n")
        self._held.clear()
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


def merge_text(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The same chunks with each run of plain text deltas as one; every other chunk stays itself, in its place."""
    merged: list[Chunk] = []
    text: Chunk | None = None
    for chunk in chunks:
        delta = _text_delta(chunk)
        if text is not None and delta is not None:
            text["content"] += delta["content"]
        else:
            merged.append(chunk)
            text = delta
    return merged


def _text_delta(chunk: Chunk) -> Chunk | None:
    choices = chunk.get("choices") or []
    if len(choices) != 1 or chunk.get("usage") or choices[0].get("finish_reason") or choices[0].get("logprobs"):
        return None
    delta: Chunk = choices[0]["delta"]
    plain = isinstance(delta.get("content"), str) and all(key in TEXT_KEYS or not value for key, value in delta.items())
    return delta if plain else None
