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


def count_tokens(text: str) -> int:
    """Tokens of a text; special tokens such as `<|endoftext|>` count as the text they are written with."""
    return _counter()(text.encode(errors="replace").decode())
