"""Exact, offline token counts."""

from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Final

ENCODING: Final = "o200k_base"
"""Vocabulary of gpt-4o and everything after it."""


EXTENSION: Final = "bpe_openai._bindings"
"""The tokenizer under its public `Encoding`: that one raises on a million characters or 200,000 tokens."""


@cache
def _counter() -> Callable[[str], int]:
    """Takes 0.1 s, 30 MB, and 30 MB more that all processes of a node share; so only who counts pays for it."""
    count: Callable[[str], int] = _extension().tokenizer_for_encoding(ENCODING).count
    return count


def _extension() -> ModuleType:
    """The extension module alone: its package builds dicts of every vocabulary when it is imported, 0.65 s and 65 MB."""
    package = find_spec(EXTENSION.partition(".")[0])
    spec = PathFinder.find_spec(EXTENSION, package.submodule_search_locations if package else [])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no module {EXTENSION}", name=EXTENSION)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXACT_CHARS = 200_000
"""Characters that are counted, in 10 to 20 ms with the interpreter's lock held. What follows counts as what was counted."""


def count_tokens(text: str) -> int:
    """Tokens of a text; special tokens such as `<|endoftext|>` count as the text they are written with.

    Of a longer text than EXACT_CHARS, an estimate: no model's window takes one, and megabytes must not hold up all others.
    """
    counted = _counter()(text[:EXACT_CHARS].encode(errors="replace").decode())
    return counted if len(text) <= EXACT_CHARS else counted * len(text) // EXACT_CHARS


def most_tokens(text: str) -> int:
    """What a text has at most, without its vocabulary: no token is shorter than a byte."""
    return len(text.encode(errors="replace"))
