"""What is asked and what must come back: the model and the load both know it, so every token is checked."""

import re
import zlib
from dataclasses import dataclass

QUESTION = re.compile(r"say (\d+) tokens at (\d+) a second after (\d+) s(, with the tool)?, number (\d+)")

MODEL = "gpt-4.1-mini"
"""Has a price, so that billing is measured too. The fake model answers to any name."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question. `rate` in tokens a second, 0: as fast as the model can; `after`: seconds of silence before the first one."""

    tokens: int = 50
    rate: int = 0
    after: int = 0
    tool: bool = False
    number: int = 0

    @property
    def question(self) -> str:
        tool = ", with the tool" if self.tool else ""
        return f"say {self.tokens} tokens at {self.rate} a second after {self.after} s{tool}, number {self.number}"

    @property
    def answer(self) -> list[str]:
        """Five characters a token, unlike those at other places and of other questions."""
        start = zlib.crc32(self.question.encode())
        return [f"{(start + 7919 * place) % 65536:04x} " for place in range(self.tokens)]

    @property
    def text(self) -> str:
        return "".join(self.answer)

    @classmethod
    def parse(cls, question: str) -> "Ask | None":
        """What `question` says; None for other text."""
        found = QUESTION.fullmatch(question)
        if not found:
            return None
        tokens, rate, after, tool, number = found.groups()
        return cls(int(tokens), int(rate), int(after), tool=bool(tool), number=int(number))
