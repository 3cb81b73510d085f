"""A model's SQL, read and rebuilt: one SELECT over allowed schemas and functions, or a refusal that says why. Pure."""

import re
from collections.abc import Iterable
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from agent_service.data.complexity import beyond
from agent_service.data.grammar import GROWS, NODES, PLAIN_FUNCTIONS, TYPES
from agent_service.data.query import MAX_SQL_CHARS, QueryRefused, Statement

_STARTS: Final = frozenset({TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN})
_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER: Final = re.compile(r"\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)


def prepare(sql: str, schemas: tuple[str, ...]) -> Statement:
    """Reads `sql` and writes it anew from its syntax tree, so that what was checked is what runs.

    Raises:
        QueryRefused: not one readable SELECT, or a table, function or construct that is not allowed.
    """
    try:
        tree = _parse(sql)
        for node in tree.walk():
            _check(node, schemas)
        shown = tree.sql(Postgres, pretty=True, comments=False, unsupported_level=ErrorLevel.RAISE)
        parameters = _number_parameters(tree)
        _fix_names(tree.find_all(exp.Identifier))
        return Statement(tree.sql(Postgres, comments=False), shown, parameters)
    except SqlglotError as error:
        raise QueryRefused(f"the query cannot be read as PostgreSQL: {_first_line(error)}") from None
    except RecursionError:
        raise QueryRefused("the query is nested too deeply") from None


def _parse(sql: str) -> exp.Query:
    if len(sql) > MAX_SQL_CHARS:
        raise QueryRefused(f"the query has {len(sql)} characters; {MAX_SQL_CHARS} are allowed")
    tokens = Postgres().tokenize(sql)
    _check_tokens(tokens)
    if reason := beyond(tokens):
        raise QueryRefused(f"the query is too large to be read: {reason}")
    try:
        trees = [tree for tree in sqlglot.parse(sql, read=Postgres) if tree is not None]
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        # Odd input trips sqlglot itself: date_part('', x) is a ValueError.
        raise QueryRefused(f"the query cannot be read as PostgreSQL: {error}") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise QueryRefused("only one SELECT may run")
    return trees[0]


def _check_tokens(tokens: list[Token]) -> None:
    # Before the parser, which logs the text of statements that it does not know.
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if not tokens or tokens[0].token_type not in _STARTS or any(t.token_type is TokenType.SEMICOLON for t in tokens):
        raise QueryRefused("only one SELECT may run")


def _check(node: exp.Expr, schemas: tuple[str, ...]) -> None:
    if isinstance(node, exp.Anonymous):
        _check_function(node)
    elif type(node) not in NODES:
        raise QueryRefused(f"{_name_of(node)} is not allowed")
    elif isinstance(node, exp.Table):
        _check_table(node, schemas)
    elif isinstance(node, exp.With) and node.args.get("recursive"):
        raise QueryRefused("WITH RECURSIVE is not allowed; generate_series makes rows")
    elif isinstance(node, GROWS) and node.find_ancestor(*GROWS):
        raise QueryRefused(f"{_name_of(node)} within another replacement is not allowed: each may make a text many times longer")
    elif isinstance(node, exp.DataType) and node.this not in TYPES:
        raise QueryRefused(f"the type {node.sql(Postgres)} is not allowed")
    elif isinstance(node, exp.Placeholder) and not node.name.isidentifier():
        raise QueryRefused("parameters are written %(name)s")
    elif isinstance(node, exp.JSONPathKey | exp.Interval) and not node.name:
        # sqlglot would drop it, and return the whole value for `-> ''`.
        raise QueryRefused("an empty key or interval is not allowed")
    elif _is_odd_text(node):
        raise QueryRefused(f"{node.name[:40]!r} is not allowed")


def _check_function(node: exp.Anonymous) -> None:
    if node.name.lower() not in PLAIN_FUNCTIONS:
        raise QueryRefused(f"the function {node.name} is not allowed")


def _check_table(table: exp.Table, schemas: tuple[str, ...]) -> None:
    if isinstance(table.this, exp.Func) and not table.db:
        return
    if not isinstance(table.this, exp.Identifier) or table.catalog:
        raise QueryRefused(f"{table.sql(Postgres)} is not allowed as a table")
    schema = table.args.get("db")
    if schema is not None and _folded(schema) not in schemas:
        raise QueryRefused(f"the schema {schema.name} may not be read; allowed: {', '.join(schemas)}")
    # An unqualified name is a WITH query or is looked up in pg_catalog, whose tables are all pg_*, then in the first schema.
    if schema is None and _folded(table.this).startswith("pg_"):
        raise QueryRefused(f"the table {table.name} may not be read")


def _is_odd_text(node: exp.Expr) -> bool:
    """Whether the node would put text into the rebuilt query that is not quoted and not plain."""
    if isinstance(node, exp.Var):
        return not _WORD.fullmatch(node.name)
    return isinstance(node, exp.Literal) and not node.is_string and not _NUMBER.fullmatch(node.name)


def _number_parameters(tree: exp.Expr) -> tuple[str, ...]:
    found = list(tree.find_all(exp.Placeholder))
    names = tuple(dict.fromkeys(node.name for node in found))
    for node in found:
        node.replace(exp.Parameter(this=exp.Literal.number(names.index(node.name) + 1)))
    return names


def _fix_names(identifiers: Iterable[exp.Identifier]) -> None:
    # Quoted, a name can be nothing else: `user` is a column, not the keyword.
    for identifier in identifiers:
        identifier.set("this", _folded(identifier))
        identifier.set("quoted", True)


def _folded(identifier: exp.Identifier) -> str:
    """The name as PostgreSQL stores it."""
    return identifier.name if identifier.quoted else identifier.name.lower()


def _name_of(node: exp.Expr) -> str:
    if isinstance(node, exp.Func):
        return f"the function {node.sql_name().lower()}"
    return type(node).__name__.upper()


def _first_line(error: Exception) -> str:
    # Without sqlglot's terminal colours.
    return re.sub(r"\x1b\[\d+m", "", str(error)).split("\n", 1)[0]
