"""What a model thought, told apart from what it answers, in the forms of OpenAI-compatible endpoints.

`reasoning_content` beside the text (DeepSeek, LiteLLM, vLLM until 0.11), `reasoning` (vLLM since, Ollama, OpenRouter), and tags
around the first part of the text: `<think>` of a server without a parser for its model, `<thought>` (Gemini). Parts of a list of
content go to langchain as they are; runs/extract.py knows them.
"""

import re
from typing import Any, Final

FIELD: Final = "reasoning_content"
"""Where it is from here on: of a delta, of a message, and of `additional_kwargs`, as langchain's other packages have it."""

FIELDS: Final = (FIELD, "reasoning")
"""Fields beside the text, the one that is taken first: some endpoints send both, and they are the same."""

TAG: Final = re.compile(r"\s{0,64}<(think|thinking|thought|reasoning)>")

BEGINNING: Final = re.compile(r"\s{0,64}(<[a-z]{0,9})?")
"""Of such a tag: text that is nothing more waits for what follows."""


class Thoughts:
    """The thoughts of one answer that streams. Each character is looked at a fixed number of times."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        """As they came."""
        self._handed_on = 0
        self._tags = _Tags()

    @property
    def settled(self) -> bool:
        """Whether text is text and nothing else: no tag can come, and nothing was thought that goes before it."""
        return self._tags.closed and not self.pieces

    def take(self, delta: dict[str, Any]) -> bool:
        """Takes the thoughts out of a delta; whether there were any, or text that may turn out to be one."""
        if self._tags.closed and FIELD not in delta and "reasoning" not in delta:
            return False  # as almost each token of an answer, which is to cost one call here
        before = len(self.pieces)
        self._add(_field(delta))
        text = delta.get("content")
        if not text or not isinstance(text, str) or self._tags.closed:
            return len(self.pieces) > before
        thought, delta["content"] = self._tags.feed(text)
        self._add(thought)
        return not delta["content"]

    def end(self, delta: dict[str, Any]) -> None:
        """The answer is through: text that was held goes to the delta, and so does what was thought since it began."""
        thought, text = self._tags.end()
        self._add(thought)
        if text:
            said = delta.get("content") or ""
            delta["content"] = [text, *said] if isinstance(said, list) else text + said
        self.hand_on(delta)

    def hand_on(self, delta: dict[str, Any]) -> None:
        """To langchain, in one piece: it copies all so far with each that it adds."""
        if self._handed_on < len(self.pieces):
            delta[FIELD] = "".join(self.pieces[self._handed_on :])
            self._handed_on = len(self.pieces)

    def before_text(self, delta: dict[str, Any]) -> None:
        """The same before the first text only: some models think and speak by turns."""
        if not self._handed_on:
            self.hand_on(delta)

    def _add(self, thought: str) -> None:
        if thought:
            self.pieces.append(thought)


def apart(message: dict[str, Any]) -> dict[str, Any]:
    """A whole message with its thoughts in FIELD."""
    told = {key: value for key, value in message.items() if key not in FIELDS}
    thought, text = _field({**message}), message.get("content")
    if isinstance(text, str):
        tags = _Tags()
        parts = [tags.feed(text), tags.end()]
        thought += "".join(part for part, _ in parts)
        told["content"] = "".join(part for _, part in parts)
    return told | ({FIELD: thought} if thought else {})


def _field(delta: dict[str, Any]) -> str:
    """Takes all of FIELDS; the first that is text is what was thought."""
    found = [value for name in FIELDS if (value := delta.pop(name, None)) and isinstance(value, str)]
    return found[0] if found else ""


class _Tags:
    """Splits text into (thought, text) at a tag that begins it and the one that closes that."""

    def __init__(self) -> None:
        self.closed = False
        """Nothing more is to be found."""
        self._held = ""
        """What may be the beginning of a tag."""
        self._closing = ""
        """The tag that ends the thought; empty while none has begun."""
        self._gap = False
        """Between the thought and the text, whose first line break belongs to neither."""

    def feed(self, text: str) -> tuple[str, str]:
        if self.closed:
            return "", text
        text, self._held = self._held + text, ""
        if self._gap:
            return "", self._after(text)
        return self._within(text) if self._closing else self._before(text)

    def end(self) -> tuple[str, str]:
        held, self._held, self.closed = self._held, "", True
        return (held, "") if self._closing else ("", held)

    def _before(self, text: str) -> tuple[str, str]:
        if tag := TAG.match(text):
            self._closing = f"</{tag[1]}>"
            return self._within(text[tag.end() :])
        if BEGINNING.fullmatch(text):
            self._held = text
            return "", ""
        self.closed = True
        return "", text

    def _within(self, text: str) -> tuple[str, str]:
        thought, closing, rest = text.partition(self._closing)
        if closing:
            self._gap = True
            return thought, self._after(rest)
        kept = next((n for n in range(len(self._closing) - 1, 0, -1) if text.endswith(self._closing[:n])), 0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept], ""

    def _after(self, text: str) -> str:
        self.closed = bool(text := text.lstrip())
        return text
