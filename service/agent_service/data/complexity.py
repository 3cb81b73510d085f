"""How large and how nested a query may be: counted on its tokens, in one pass, before the parser sees it. Pure.

sqlglot's parser tries one reading after another. Where a type's name or ARRAY opens a bracket it reads what stands in it twice,
and what follows a join without its condition too: each such bracket or join in another doubles the time, and 209 characters
would take years. All else grows with the number of tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot.dialects.postgres import Postgres
from sqlglot.tokenizer_core import Token, TokenType

MAX_TOKENS: Final = 3_000
"""Words, numbers and signs. Large reports have some hundreds."""

MAX_DEPTH: Final = 30
"""Brackets and CASE in each other. Written by people and models: up to ten. sqlglot's recursion ends at about fifty."""

MAX_TYPED_DEPTH: Final = 4
"""Of them, those that a type or ARRAY opens, such as `date(…)`, `numeric(…)`, `ARRAY[…]`: sixteen times the parser's time."""

MAX_SET_OPERATIONS: Final = 50
MAX_JOINS: Final = 50
"""PostgreSQL's planner, too, takes long for hundreds."""

MAX_PENDING_JOINS: Final = 6
"""Joins whose ON or USING is still to come, as in `a JOIN b JOIN c ON … ON …`: 64 times the parser's time."""

MAX_PREFIXES: Final = 10
"""Such as `NOT NOT NOT` or `- - -` in a row."""

_OPENS: Final = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE})
_CLOSES: Final = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})
_TYPES: Final = frozenset(Postgres.Parser.TYPE_TOKENS) | {TokenType.ARRAY}
_SETS: Final = frozenset({TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT})
_PREFIXES: Final = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE, TokenType.INTERVAL})
_NAMES: Final = frozenset({TokenType.DOT, TokenType.ALIAS})
"""After these `end` is a name."""
_JOINS: Final = frozenset({TokenType.JOIN, TokenType.STRAIGHT_JOIN})
_CONDITIONS: Final = frozenset({TokenType.ON, TokenType.USING})
_UNCONDITIONAL: Final = frozenset({TokenType.CROSS, TokenType.NATURAL})
_SIDES: Final = frozenset({TokenType.LEFT, TokenType.RIGHT, TokenType.FULL, TokenType.INNER, TokenType.OUTER})


def beyond(tokens: Sequence[Token]) -> str | None:
    """Which limit the query exceeds, in words for whoever wrote it; None for one that may be parsed."""
    if len(tokens) > MAX_TOKENS:
        return f"it has {len(tokens)} words and signs; {MAX_TOKENS} are allowed"
    counts = _measure(token.token_type for token in tokens)
    for count, most, what in (
        (counts.sets, MAX_SET_OPERATIONS, "it has {} of UNION, INTERSECT, EXCEPT"),
        (counts.joins, MAX_JOINS, "it has {} joins"),
        (counts.depth, MAX_DEPTH, "brackets and CASE are nested {} deep"),
        (counts.typed, MAX_TYPED_DEPTH, "types and arrays are nested {} deep"),
        (counts.pending, MAX_PENDING_JOINS, "{} joins in a row lack their ON or USING"),
        (counts.prefixes, MAX_PREFIXES, "{} operators such as NOT and - stand in a row"),
    ):
        if count > most:
            return f"{what.format(count)}; {most} are allowed"
    return None


@dataclass(slots=True)
class _Counts:
    """The largest of each."""

    sets: int = 0
    joins: int = 0
    depth: int = 0
    typed: int = 0
    pending: int = 0
    prefixes: int = 0


@dataclass(slots=True)
class _Bracket:
    typed: bool = False
    pending: int = 0
    """Joins right in it that wait for their condition."""


def _measure(kinds: Iterable[TokenType]) -> _Counts:
    most = _Counts()
    brackets = [_Bracket()]
    cases = typed = pending = prefixes = 0
    unconditional = False
    before = TokenType.SELECT
    for kind in kinds:
        here = brackets[-1]
        if kind in _OPENS:
            brackets.append(_Bracket(before in _TYPES))
            typed += before in _TYPES
        elif kind in _CLOSES and len(brackets) > 1:
            brackets.pop()
            typed -= here.typed
            pending -= here.pending
        elif kind is TokenType.CASE:
            cases += 1
        elif kind is TokenType.END and cases and before not in _NAMES:
            cases -= 1
        elif kind in _JOINS:
            most.joins += 1
            here.pending += not unconditional
            pending += not unconditional
        elif kind in _CONDITIONS and here.pending and before is not TokenType.DISTINCT:
            here.pending -= 1
            pending -= 1
        most.sets += kind in _SETS
        prefixes = prefixes + 1 if kind in _PREFIXES else 0
        unconditional = kind in _UNCONDITIONAL or (unconditional and kind in _SIDES)
        most.depth = max(most.depth, len(brackets) - 1 + cases)
        most.typed = max(most.typed, typed)
        most.pending = max(most.pending, pending)
        most.prefixes = max(most.prefixes, prefixes)
        before = kind
    return most
