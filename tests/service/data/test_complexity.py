"""How large and nested a query may be before it is parsed: what people write passes, each limit is named."""

import pytest
from sqlglot.dialects.postgres import Postgres

from agent_service.data.complexity import (
    MAX_DEPTH,
    MAX_JOINS,
    MAX_PREFIXES,
    MAX_SET_OPERATIONS,
    MAX_TOKENS,
    MAX_TYPED_DEPTH,
    beyond,
)
from agent_service.data.query import QueryRefused
from agent_service.data.statement import prepare

SCHEMAS = ("slipway_data",)


def nested(opening: str, closing: str, depth: int) -> str:
    return "SELECT " + opening * depth + "1" + closing * depth


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT " + ", ".join(["1"] * MAX_TOKENS), f"{MAX_TOKENS} are allowed"),
        (" UNION ALL ".join(["SELECT 1"] * (MAX_SET_OPERATIONS + 2)), "51 of UNION, INTERSECT, EXCEPT; 50 are allowed"),
        (" EXCEPT ".join(["SELECT 1"] * (MAX_SET_OPERATIONS + 2)), "51 of UNION, INTERSECT, EXCEPT; 50 are allowed"),
        ("SELECT 1 FROM usage" + " JOIN usage USING (day)" * (MAX_JOINS + 1), "51 joins; 50 are allowed"),
        ("SELECT 1 FROM usage" + " CROSS JOIN usage" * (MAX_JOINS + 1), "51 joins; 50 are allowed"),
        (nested("(", ")", MAX_DEPTH + 1), "brackets and CASE are nested 31 deep; 30 are allowed"),
        (nested("lower(", ")", MAX_DEPTH + 1), "nested 31 deep"),
        (nested("(SELECT ", ")", MAX_DEPTH + 1), "nested 31 deep"),
        (nested("CASE WHEN true THEN ", " END", MAX_DEPTH + 1), "nested 31 deep"),
        (nested("CASE WHEN (x.end) THEN ", "", MAX_DEPTH), "nested 31 deep"),
        ("SELECT " + "(" * 5_000, "5001 words and signs; 3000 are allowed"),
        ("SELECT (" + ")" * 10 + "(" * 31, "nested 31 deep"),
        (nested("ARRAY[(", ")]", MAX_TYPED_DEPTH + 1), "types and arrays are nested 5 deep; 4 are allowed"),
        (nested("DATE (", ")", MAX_TYPED_DEPTH + 1), "types and arrays are nested 5 deep"),
        (nested("lower(uuid(", "))", MAX_TYPED_DEPTH + 1), "types and arrays are nested 5 deep"),
        (nested("numeric[", "]", MAX_TYPED_DEPTH + 1), "types and arrays are nested 5 deep"),
        ("SELECT 1::" + "numeric /* ( */ (" * 24 + "7", "types and arrays are nested 24 deep"),
        ("SELECT " + "NOT " * (MAX_PREFIXES + 1) + "true", "11 operators such as NOT and - stand in a row; 10 are allowed"),
        ("SELECT " + "- " * 4_000 + "1", "are allowed"),
        ("SELECT " + "INTERVAL " * 1_000 + "'1'", "operators such as NOT"),
        ("SELECT 1 FROM a" + " JOIN b" * 12, "12 joins in a row lack their ON or USING; 6 are allowed"),
        ("SELECT 1 FROM a" + " LEFT JOIN b" * 12 + " WHERE" + " ON" * 12, "12 joins in a row lack"),
        ("SELECT 1 FROM a" + " STRAIGHT_JOIN b" * 12, "12 joins in a row lack"),
        ("SELECT 1 FROM a" + " JOIN (SELECT DISTINCT ON (x) 1) b" * 12, "12 joins in a row lack"),
        ("SELECT 1 FROM a" + " JOIN convert(x USING y) b" * 12, "12 joins in a row lack"),
        ("SELECT 1 FROM a" + " JOIN b JOIN c ON true" * 12, "joins in a row lack"),
        ("SELECT " + "x JOIN '' " * 12 + "FROM a", "12 joins in a row lack"),
    ],
    ids=range(27),
)
def test_what_is_too_large_is_refused_with_the_limit(sql: str, said: str) -> None:
    with pytest.raises(QueryRefused, match="too large to be read: ") as refused:
        prepare(sql[:10_000], SCHEMAS)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "sql",
    [
        nested("(", ")", 20),
        nested("coalesce(", ", 0)", 20),
        " UNION ALL ".join(["SELECT 1"] * (MAX_SET_OPERATIONS + 1)),
        "SELECT 1 FROM usage" + " JOIN usage USING (day)" * 20,
        "SELECT ARRAY[ARRAY[1::numeric(10, 2)], ARRAY[date_trunc('day', now())::date - '2024-01-01'::date]]",
        "SELECT "
        + ", ".join(f"sum(CASE WHEN model = 'm{n}' THEN cost_usd ELSE 0 END) AS m{n}" for n in range(60))
        + " FROM usage",
        "SELECT '((((((((((((((((((((((((((((((((((' || '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['",
        'SELECT 1 AS "CASE CASE CASE", ' + "1 + " * 500 + "1",
        "SELECT 1 FROM usage" + " CROSS JOIN usage" * 20 + " NATURAL LEFT JOIN usage" * 20,
        "SELECT 1 FROM a JOIN b JOIN c JOIN d ON true ON true ON true" + " LEFT JOIN e ON true" * 30,
        "SELECT 1 -- " + "(" * 100,
        "SELECT 1 IN (" + ", ".join("1" * 1_000) + ")",
    ],
    ids=range(12),
)
def test_what_people_and_models_write_passes(sql: str) -> None:
    assert beyond(Postgres().tokenize(sql)) is None
