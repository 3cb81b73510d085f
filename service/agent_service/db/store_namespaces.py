"""Which namespaces of LangGraph's store stand under one, at the cost of those that are asked for: not of the items in them.

The index on prefixes is walked from one namespace to the next. LangGraph's own statement reads each item.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.db.pool import Pool, connection
from agent_service.errors import InvalidRequest

Labels = Sequence[str]
"""Of a namespace; a `*` stands for any label."""

ANY = "*"

MAX_WALKED = 10_000
"""Namespaces that one question with a `suffix` or a `*` looks at: each takes some 10 µs of the database. No caller has more by
the API (caller_store.MAX_ITEMS), but its graphs may make them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list, all without `root`: names of at most `max_depth` labels, longer ones cut, `limit` from `offset` on."""

    root: Labels
    """Under which all stands that may be seen."""
    prefix: Labels
    suffix: Labels
    max_depth: int | None
    limit: int
    offset: int


async def namespaces(pool: Pool, wanted: Wanted) -> list[tuple[str, ...]]:
    """In the order of their bytes. Raises InvalidRequest: too many would have to be looked at."""
    if wanted.suffix or ANY in wanted.prefix:
        return await _matching(pool, wanted)
    if wanted.max_depth is not None and wanted.max_depth <= len(wanted.prefix):
        return await _if_any(pool, wanted)
    return await _under(pool, wanted)


async def _under(pool: Pool, wanted: Wanted) -> list[tuple[str, ...]]:
    async with connection(pool) as conn:
        rows = await (await conn.execute(UNDER.encode(), _values(wanted, wanted.prefix))).fetchall()
    return [_inside(row["name"], wanted) for row in rows]


async def _if_any(pool: Pool, wanted: Wanted) -> list[tuple[str, ...]]:
    """All that is found is cut to one name."""
    async with connection(pool) as conn:
        found = await (await conn.execute(IF_ANY, _values(wanted, wanted.prefix))).fetchone()
    return [tuple(wanted.prefix[: wanted.max_depth])] if found and wanted.offset == 0 else []


async def _matching(pool: Pool, wanted: Wanted) -> list[tuple[str, ...]]:
    literal = wanted.prefix[: wanted.prefix.index(ANY)] if ANY in wanted.prefix else wanted.prefix
    values = {
        **_values(wanted, literal),
        "skip": len(".".join(wanted.root)) + 2,
        "begins": f"^{_pattern(wanted.prefix)}([.]|$)" if wanted.prefix else "",
        "ends": f"(^|[.]){_pattern(wanted.suffix)}$" if wanted.suffix else "",
        "most": MAX_WALKED,
    }
    async with connection(pool) as conn:
        row = await (await conn.execute(MATCHING.encode(), values)).fetchone()
    assert row is not None  # noqa: S101  # an aggregate has one
    if row["walked"] > MAX_WALKED:
        raise InvalidRequest(f"prefix: more than {MAX_WALKED} namespaces stand under it; name a longer one", field="prefix")
    return [_inside(name, wanted) for name in row["names"] or ()]


def _values(wanted: Wanted, under: Labels) -> dict[str, object]:
    base = ".".join([*wanted.root, *under])
    return {
        "base": base,
        "first": base + ".",
        "after": base + "/",  # the byte that follows `.`
        "itself": bool(under),  # the root has no name of its own
        "depth": None if wanted.max_depth is None else len(wanted.root) + wanted.max_depth,
        "limit": wanted.limit,
        "offset": wanted.offset,
    }


def _inside(name: str, wanted: Wanted) -> tuple[str, ...]:
    return tuple(name.split(".")[len(wanted.root) :])


def _pattern(labels: Labels) -> str:
    return "[.]".join("[^.]+" if label == ANY else re.escape(label) for label in labels)


CUT = "coalesce(array_to_string((string_to_array({name}, '.'))[1:%(depth)s::integer], '.'), {name})"
"""A name of at most so many labels; NULL as the depth leaves it whole."""

# Each step goes to the first name behind the last one, or behind all that is cut to the same as that: no text holds the byte 0,
# so chr(1) leaves nothing out. `~>=~` compares bytes, as the index does. Rows come as they are found: LIMIT ends the walk.
UNDER = f"""
WITH RECURSIVE walk (prefix, name) AS (
    (SELECT s.prefix, {CUT.format(name="s.prefix")} FROM public.store s
     WHERE s.prefix ~>=~ %(first)s AND s.prefix ~<~ %(after)s ORDER BY s.prefix USING ~<~ LIMIT 1)
    UNION ALL
    SELECT next.prefix, next.name FROM walk CROSS JOIN LATERAL (
        SELECT s.prefix, {CUT.format(name="s.prefix")} AS name FROM public.store s
        WHERE s.prefix ~>=~ (CASE walk.prefix WHEN walk.name THEN walk.name || chr(1) ELSE walk.name || '/' END)
          AND s.prefix ~<~ %(after)s ORDER BY s.prefix USING ~<~ LIMIT 1) AS next
)
SELECT name FROM (
    SELECT %(base)s AS name WHERE %(itself)s AND EXISTS (SELECT 1 FROM public.store WHERE prefix = %(base)s)
    UNION ALL
    SELECT name FROM walk  -- a name with items of its own is met twice where another stands between it and what is under it
    WHERE walk.prefix = walk.name OR NOT EXISTS (SELECT 1 FROM public.store s WHERE s.prefix = walk.name)
) AS found LIMIT %(limit)s OFFSET %(offset)s
"""

IF_ANY = b"""
SELECT 1 FROM public.store WHERE prefix = %(base)s OR (prefix ~>=~ %(first)s AND prefix ~<~ %(after)s) LIMIT 1
"""

MATCHING = f"""
WITH RECURSIVE walk (prefix, n) AS (
    (SELECT s.prefix, 1 FROM public.store s
     WHERE s.prefix ~>=~ %(first)s AND s.prefix ~<~ %(after)s ORDER BY s.prefix USING ~<~ LIMIT 1)
    UNION ALL
    SELECT next.prefix, walk.n + 1 FROM walk CROSS JOIN LATERAL (
        SELECT s.prefix FROM public.store s WHERE s.prefix ~>=~ (walk.prefix || chr(1)) AND s.prefix ~<~ %(after)s
        ORDER BY s.prefix USING ~<~ LIMIT 1) AS next
    WHERE walk.n <= %(most)s
), found AS (
    SELECT %(base)s AS prefix, 0 AS n WHERE %(itself)s AND EXISTS (SELECT 1 FROM public.store WHERE prefix = %(base)s)
    UNION ALL SELECT prefix, n FROM walk
)
SELECT coalesce(max(n), 0) AS walked,
       (array_agg(DISTINCT {CUT.format(name="prefix")} COLLATE "C")
        FILTER (WHERE substr(prefix, %(skip)s) ~ %(begins)s AND substr(prefix, %(skip)s) ~ %(ends)s)
       )[%(offset)s::integer + 1 : %(offset)s::integer + %(limit)s::integer] AS names
FROM found
"""
