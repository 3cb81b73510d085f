"""Exact, offline token counts."""

from collections.abc import Callable
from functools import cache

ENCODING = "o200k_base"
"""Vocabulary of gpt-4o and everything after it."""


@cache
def _counter() -> Callable[[str], int]:
    # Imported late: the package reads its vocabularies on import (0.3 s, 60 MB).
    # The tokenizer under its public `Encoding`: that one raises on a million characters or 200,000 tokens.
    from bpe_openai._bindings import tokenizer_for_encoding  # type: ignore[import-untyped]  # noqa: PLC0415  # lacks py.typed

    count: Callable[[str], int] = tokenizer_for_encoding(ENCODING).count
    return count


EXACT_CHARS = 200_000
"""Characters that are counted, in 10 to 20 ms with the interpreter's lock held. What follows counts as what was counted."""


def count_tokens(text: str) -> int:
    """Tokens of a text; special tokens such as `<|endoftext|>` count as the text they are written with.

    Of a longer text than EXACT_CHARS, an estimate: no model's window takes one, and megabytes must not hold up all others.
    """
    counted = _counter()(text[:EXACT_CHARS].encode(errors="replace").decode())
    return counted if len(text) <= EXACT_CHARS else counted * len(text) // EXACT_CHARS
