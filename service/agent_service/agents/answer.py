"""One streamed answer as a state machine: bytes in, chunks out, and whether it is through or broken."""

from typing import Any

from agent_service.agents.failures import AttemptFailed, Failure, KeyRefused, stream_failure
from agent_service.agents.sse import DONE, Chunk, EventDecoder, merge_text, parse_chunk
from agent_service.agents.wire import MAX_NAME_CHARS, HeldCalls, envelope, usage
from agent_service.errors import ModelRejected

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

    langchain gets each tool call and the log probabilities in one piece, when the model is through with them: what it does
    with a piece costs as much as all before it.
    """

    def __init__(self) -> None:
        self.done = False
        self.failure: Failure | None = None
        self._finished = False
        self._usage: Chunk | None = None
        self._bytes = 0
        self._events = 0
        self._parts = 0
        self._calls = HeldCalls()
        self._logprobs: dict[str, list[Any]] = {}
        self._decoder = EventDecoder()

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
        self._events += 1
        if self._events > MAX_EVENTS:
            raise AttemptFailed("server_error", f"its answer has more than {MAX_EVENTS} events")
        chunk = parse_chunk(event)
        if error := chunk.get("error"):
            raise stream_failure(error)
        # Some endpoints send the running total with each chunk, and ChatOpenAI adds up what it gets: only the last counts.
        if counts := chunk.pop("usage", None):
            self._usage = {**envelope(chunk), "choices": [], "usage": usage(counts)}
        if chunk["choices"] and self._is_to_be_said(choice := chunk["choices"][0]):
            chunks.append({**envelope(chunk), "choices": [choice]} if "finish_reason" in choice else chunk)

    def _is_to_be_said(self, choice: Chunk) -> bool:
        """Whether anything is left of a choice without what is held: calls come with its finish reason, the rest at the end."""
        delta, finish = choice["delta"], choice.pop("finish_reason", None)
        held = self._calls.take(delta, choice.get("index"))
        if probabilities := choice.pop("logprobs", None):
            self._hold_logprobs(probabilities)
        if self._parts or not isinstance(delta.get("content") or "", str):
            delta["content"] = self._counted(delta.get("content") or [])
        if finish and not self._finished:
            self._finished = True
            choice["finish_reason"] = str(finish)[:MAX_NAME_CHARS]
            delta |= self._calls.whole()
            return True
        return not held or any(value for key, value in delta.items() if key != "role")

    def _hold_logprobs(self, probabilities: Any) -> None:
        if isinstance(probabilities, dict):
            for key, tokens in probabilities.items():
                if isinstance(tokens, list) and key in LOGPROBS:
                    self._logprobs.setdefault(key, []).extend(tokens)

    def _counted(self, content: Any) -> Any:
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
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return {"choices": [choice]} if self._logprobs or choice["delta"] else None
