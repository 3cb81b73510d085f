"""One streamed answer as a state machine: bytes in, chunks out, and whether it is through or broken."""

from collections import defaultdict
from typing import Any

from agent_service.agents.failures import AttemptFailed, Failure, KeyRefused, stream_failure
from agent_service.agents.sse import DONE, Chunk, EventDecoder, is_finished, merge_text, parse_chunk
from agent_service.agents.tool_calls import ToolCallPieces
from agent_service.errors import ModelRejected

MAX_ANSWER_BYTES = 128 * 2**20
"""Of one answer on the wire: four times what the longest answers of today's models take (128,000 tokens of 250 bytes)."""


class Answer:
    """`done` once nothing more is to come; then `failure` says why, or is None after a whole answer."""

    def __init__(self) -> None:
        self.done = False
        self.failure: Failure | None = None
        self._finished = False
        self._usage: Chunk | None = None
        self._bytes = 0
        self._decoder = EventDecoder()
        self._calls: defaultdict[Any, ToolCallPieces] = defaultdict(ToolCallPieces)
        """By the index of the choice."""

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
            return [*merge_text(chunks), *self.fail(failure)]
        if not data and not self.done:
            return [*merge_text(chunks), *self.fail(AttemptFailed("connection_error", "the connection ended before the answer"))]
        return [*merge_text(chunks), *self._closing()]

    def fail(self, failure: Failure) -> list[Chunk]:
        """The answer broke off here. Nothing is missing if the model has said why it stopped."""
        self.done = True
        self.failure = None if self._finished else failure
        return self._closing()

    def _take(self, event: bytes, chunks: list[Chunk]) -> None:
        chunk = parse_chunk(event)
        if error := chunk.get("error"):
            raise stream_failure(error)
        self._finished = self._finished or is_finished(chunk)
        # Some endpoints send the running total with each chunk, and ChatOpenAI adds up what it gets: only the last counts.
        if usage := chunk.pop("usage", None):
            self._usage = {**chunk, "choices": [], "usage": usage}
        if chunk.get("choices"):
            self._number_calls(chunk)
            chunks.append(chunk)

    def _number_calls(self, chunk: Chunk) -> None:
        for choice in chunk["choices"]:
            if pieces := choice["delta"].get("tool_calls"):
                try:
                    choice["delta"]["tool_calls"] = self._calls[choice.get("index")].normal(pieces)
                except (AttributeError, TypeError) as error:
                    raise AttemptFailed("server_error", "it sent a malformed tool call") from error

    def _closing(self) -> list[Chunk]:
        return [self._usage] if self.done and self._usage else []
