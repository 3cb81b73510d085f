"""Namespaces are listed as LangGraph's store lists them, and cost what is listed."""

import itertools
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.store.base import ListNamespacesOp, MatchCondition

from agent_service.db import store_namespaces
from agent_service.db.graph_store import GraphStore
from agent_service.db.pool import Pool, make_pool
from agent_service.db.store_namespaces import Wanted, namespaces
from agent_service.errors import InvalidRequest

ROOT = ("callers", "acme", "ann")
LABELS = ("a", "b", "a-b", "a b", "a/", "A", "é", "0", "a+b", "(", "_")

FILL = """
INSERT INTO store (prefix, key, value)
SELECT 'callers.acme.ann.' || (n %% 20) || '.' || (n %% 1000), n::text, '{}' FROM generate_series(1, %s) AS n
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size=2, timeout=10) as opened:
        yield opened


def wanted(prefix: Any = (), suffix: Any = (), depth: int | None = None, limit: int = 1_000, offset: int = 0) -> Wanted:
    return Wanted(ROOT, prefix, suffix, depth, limit, offset)


async def test_they_are_those_that_langgraph_s_store_lists(pool: Pool) -> None:
    draw, store = random.Random(7), GraphStore(pool)
    async with store:
        for _ in range(60):
            place = (*ROOT, *draw.choices(LABELS, k=draw.randint(1, 4)))
            await store.aput(place, draw.choice("xy"), {"n": 1})
        for other in ("ann-2", "ann.", "an", "ann/", "anna"):
            await store.aput(("callers", "acme", other.replace(".", "%2E"), "a"), "k", {"n": 1})
        prefixes = [(), *((label,) for label in LABELS), ("a", "b"), ("*", "b"), ("a", "*"), ("(",), ("nobody",)]
        for prefix, suffix, depth in itertools.product(prefixes, [(), ("a",), ("a", "b"), ("*",), ("a b",)], [None, 1, 2, 3]):
            conditions = [MatchCondition("prefix", (*ROOT, *prefix)), *([MatchCondition("suffix", suffix)] if suffix else [])]
            theirs: Any = await store.at_once(
                ListNamespacesOp(tuple(conditions), None if depth is None else len(ROOT) + depth, 1_000, 0)
            )
            ours = await namespaces(pool, wanted(prefix, suffix, depth))
            assert len(ours) == len({*ours})
            assert {*ours} == {name[len(ROOT) :] for name in theirs}, (prefix, suffix, depth)
            pages = [await namespaces(pool, wanted(prefix, suffix, depth, 3, at)) for at in range(0, len(ours) + 3, 3)]
            assert [name for page in pages for name in page] == ours


async def test_a_page_reads_as_many_rows_as_it_has_whatever_is_stored(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute(FILL.encode(), (100_000,))
        await conn.execute("ANALYZE store")
        read = {}
        for depth, limit, offset in ((1, 100, 0), (None, 10, 0), (None, 10, 100), (2, 10, 0)):
            values = store_namespaces._values(wanted(depth=depth, limit=limit, offset=offset), ())
            plan: Any = await (
                await conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {store_namespaces.UNDER}".encode(), values)
            ).fetchone()
            (told,) = plan.values()
            read[depth, limit, offset] = _rows_of_table(told[0]["Plan"])

    assert read[1, 100, 0] <= 50, json.dumps(str(read))  # 20 names
    assert read[None, 10, 0] <= 25
    assert read[None, 10, 100] <= 230
    assert read[2, 10, 0] <= 25


async def test_a_question_that_would_look_at_too_many_is_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pool.connection() as conn:
        await conn.execute(FILL.encode(), (100,))
    monkeypatch.setattr(store_namespaces, "MAX_WALKED", 100)
    assert len(await namespaces(pool, wanted(suffix=("7",)))) == 1
    monkeypatch.setattr(store_namespaces, "MAX_WALKED", 99)
    with pytest.raises(InvalidRequest, match="more than 99"):
        await namespaces(pool, wanted(suffix=("7",)))
    assert len(await namespaces(pool, wanted(("7",), ("7",)))) == 1


def _rows_of_table(node: dict[str, Any]) -> float:
    """That all scans of the table gave, and threw away."""
    own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return (own if node.get("Relation Name") == "store" else 0) + sum(_rows_of_table(each) for each in node.get("Plans", ()))


async def test_a_suffix_is_of_the_caller_s_labels_alone(pool: Pool) -> None:
    async with GraphStore(pool) as store:
        await store.aput((*ROOT, "b"), "k", {"n": 1})
    assert await namespaces(pool, wanted(suffix=("*", "b"))) == []
    assert await namespaces(pool, wanted(suffix=("b",))) == [("b",)]
