"""Tokens and cost from the ledger: exact sums, in decimal from the ledger's rows to whoever shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

from psycopg import sql

from agent_service.db.pool import Connection, Pool, connection
from agent_service.principal import Principal
from agent_service.runs.run_types import ModelCall, Run, RunUsage

Group = Literal["day", "month", "model", "user", "session", "route", "graph"]

GROUPS: tuple[Group, ...] = get_args(Group)

_ESCAPED = "replace(replace({}, '%%', '%%25'), '/', '%%2F')"
"""As Principal.label; the percent signs are doubled for psycopg."""

EXPRESSIONS: dict[Group, str] = {
    "day": "to_char(l.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "month": "to_char(l.created_at AT TIME ZONE 'UTC', 'YYYY-MM')",
    "model": "l.model",
    "user": f"{_ESCAPED.format('l.tenant')} || '/' || {_ESCAPED.format('l.user_id')}",
    "session": "l.session_id",
    "route": "coalesce(r.route, l.route, '')",
    "graph": "coalesce(r.graph, l.graph, '')",
}

ROW_LIMIT = 10_000
"""Groups of one report; a year of days for 27 models."""

UNPRICED_LIMIT = 50
"""Models without a price that a report names."""

RATE_DAYS = 7
"""Days whose spending tells the rest of a month: a whole week, as weekends differ."""

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Month:
    """What the month (`2026-11`, UTC) has cost until now, and will have cost if the last days go on. USD."""

    month: str
    spent_usd: Decimal
    projected_usd: Decimal


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows by group, and the total of all that was asked for: also of rows beyond ROW_LIMIT, which are left out (`truncated`)."""

    rows: list[dict[str, Any]]
    total: dict[str, Any]
    truncated: bool
    unpriced: list[dict[str, Any]]
    """Models whose calls have no cost: `model`, `model_calls`, the most called first."""
    month: Month
    """Of everything that the principal may see, whatever time was asked for."""


async def usage(
    pool: Pool,
    principal: Principal | None,
    group_by: Sequence[Group],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> UsageReport:
    """Tokens and USD (UTC days), by the groups asked for, of what the principal may see; None sees everyone's.

    Sessions of several users are told apart by the user: each has ids of its own.
    """
    everyone = principal is None or principal.role == "platform"
    several = principal is None or principal.role != "user"
    if several and "session" in group_by and "user" not in group_by:
        group_by = [group for group in GROUPS if group in {*group_by, "user"}]
    values = {
        "tenant": None if everyone or principal is None else principal.tenant,
        "user": None if several or principal is None else principal.user,
        "since": since,
        "until": until,
    }
    async with connection(pool) as conn:
        found = await _fetch(conn, _grouped(group_by), {**values, "limit": ROW_LIMIT + 2})
        unpriced = await _fetch(conn, sql.SQL(UNPRICED), {**values, "limit": UNPRICED_LIMIT})
        (month,) = await _fetch(conn, sql.SQL(MONTH), {**values, "days": RATE_DAYS})
    (total,) = (_without(row, "is_total", *group_by) for row in found if row["is_total"])
    rows = [_without(row, "is_total") for row in found if not row["is_total"]]
    return UsageReport(rows[:ROW_LIMIT], total, len(rows) > ROW_LIMIT, unpriced, _month(**month))


async def _fetch(conn: Connection, query: sql.SQL | sql.Composed, values: dict[str, Any]) -> list[dict[str, Any]]:
    return await (await conn.execute(query, values)).fetchall()


def _grouped(group_by: Sequence[Group]) -> sql.Composed:
    """One statement for rows and their total, so that no call comes between the two."""
    columns = [sql.SQL("{} AS {}, ").format(sql.SQL(EXPRESSIONS[g]), sql.Identifier(g)) for g in group_by]
    keys = sql.SQL(", ").join(sql.SQL(EXPRESSIONS[g]) for g in group_by)
    if not group_by:
        return sql.SQL(USAGE).format(groups=sql.SQL("true AS is_total, "), tail=sql.SQL(""))
    is_total = sql.SQL("grouping({}) > 0 AS is_total, ").format(keys)
    numbers = sql.SQL(", ").join(sql.SQL(str(n + 2)) for n in range(len(group_by)))
    tail = sql.SQL("GROUP BY GROUPING SETS (({keys}), ()) ORDER BY 1 DESC, {numbers}").format(keys=keys, numbers=numbers)
    return sql.SQL(USAGE).format(groups=sql.Composed([is_total, *columns]), tail=tail)


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in names}


def _month(*, month: str, spent: Decimal, recent: Decimal, recent_seconds: float, left_seconds: float) -> Month:
    return Month(month, spent, spent + projected(recent, recent_seconds, left_seconds))


def projected(recent: Decimal, recent_seconds: float, left_seconds: float) -> Decimal:
    """USD of the time that is left, at the rate of the recent time. Less than a day of it counts as one: the first call of all is
    no rate."""
    share = Decimal(left_seconds) / Decimal(max(recent_seconds, DAY_SECONDS))
    return (recent * share).quantize(Decimal("0.01"))


_MINE = """
FROM slipway.ledger l {join}
WHERE (%(tenant)s::text IS NULL OR l.tenant = %(tenant)s) AND (%(user)s::text IS NULL OR l.user_id = %(user)s)
"""

_IN_TIME = """
  AND (%(since)s::timestamptz IS NULL OR l.created_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR l.created_at < %(until)s)
"""

USAGE = f"""
SELECT {{groups}}count(*) AS model_calls, count(DISTINCT l.run_id) AS runs,
       coalesce(sum(l.input_tokens), 0)::bigint AS input_tokens, coalesce(sum(l.cached_tokens), 0)::bigint AS cached_tokens,
       coalesce(sum(l.output_tokens), 0)::bigint AS output_tokens, coalesce(sum(l.cost_usd), 0) AS cost_usd,
       count(*) FILTER (WHERE l.cost_usd IS NULL) AS unpriced_calls, count(*) FILTER (WHERE l.estimated) AS estimated_calls
{_MINE.format(join="LEFT JOIN slipway.runs r ON r.id = l.run_id")}{_IN_TIME}
{{tail}}
LIMIT %(limit)s
"""

UNPRICED = f"""
SELECT l.model, count(*) AS model_calls
{_MINE.format(join="")}{_IN_TIME} AND l.cost_usd IS NULL
GROUP BY 1 ORDER BY 2 DESC, 1
LIMIT %(limit)s
"""

MONTH = """
SELECT to_char(t.begins, 'YYYY-MM') AS month,
       coalesce(sum(l.cost_usd) FILTER (WHERE l.created_at >= t.begins AT TIME ZONE 'UTC'), 0) AS spent,
       coalesce(sum(l.cost_usd) FILTER (WHERE l.created_at >= t.recent), 0) AS recent,
       extract(epoch FROM now() - coalesce(min(l.created_at) FILTER (WHERE l.created_at >= t.recent), now()))::float8
           AS recent_seconds,
       extract(epoch FROM (t.begins + interval '1 month') AT TIME ZONE 'UTC' - now())::float8 AS left_seconds
FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') AS begins,
             now() - make_interval(days => %(days)s) AS recent) AS t
LEFT JOIN slipway.ledger l
    ON l.created_at >= least(t.begins AT TIME ZONE 'UTC', t.recent)
   AND (%(tenant)s::text IS NULL OR l.tenant = %(tenant)s) AND (%(user)s::text IS NULL OR l.user_id = %(user)s)
GROUP BY t.begins
"""


async def run_usage(pool: Pool, run_id: UUID) -> RunUsage:
    """Tokens and cost of one run, over all its attempts; cost is None when a call has no price."""
    async with connection(pool) as conn:
        row = await (await conn.execute(RUN_USAGE, {"run": run_id})).fetchone()
    assert row is not None  # noqa: S101  # aggregates without GROUP BY have one row
    return {
        "model_calls": row["model_calls"],
        "input_tokens": row["input_tokens"],
        "cached_tokens": row["cached_tokens"],
        "output_tokens": row["output_tokens"],
        "cost_usd": row["cost_usd"],
        # A run that crashed with a cached answer makes its own.
        "cached_answer": bool(row["cached"]) and not row["model_calls"],
    }


async def billed_before(pool: Pool, run: Run) -> list[ModelCall]:
    """The model calls of earlier attempts at a run."""
    async with connection(pool) as conn:
        rows = await (await conn.execute(BILLED_BEFORE, {"run": run.id, "attempt": run.attempt})).fetchall()
    return [ModelCall(**row) for row in rows]


async def run_calls(pool: Pool, run_id: UUID) -> tuple[list[dict[str, Any]], bool]:
    """The first RUN_CALLS model calls of a run, in their order; whether there are more. USD as floats or None."""
    async with connection(pool) as conn:
        rows = await (await conn.execute(OF_RUN, {"run": run_id, "limit": RUN_CALLS + 1})).fetchall()
    return rows[:RUN_CALLS], len(rows) > RUN_CALLS


RUN_CALLS = 1_000
"""Of one run that are listed; a run of the default step limit has some dozens."""

OF_RUN = """
SELECT attempt, call, node, model, input_tokens, cached_tokens, output_tokens, cost_usd::float8 AS cost_usd, estimated
FROM slipway.ledger WHERE run_id = %(run)s ORDER BY attempt, call LIMIT %(limit)s
"""

BILLED_BEFORE = """
SELECT attempt, call, node, model, input_tokens, cached_tokens, output_tokens, cost_usd, estimated
FROM slipway.ledger WHERE run_id = %(run)s AND attempt < %(attempt)s
"""

RUN_USAGE = """
SELECT count(*) AS model_calls, coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
       coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens, coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
       CASE WHEN count(*) = count(cost_usd) THEN coalesce(sum(cost_usd), 0)::float8 END AS cost_usd,
       (SELECT r.cached FROM slipway.runs r WHERE r.id = %(run)s) AS cached
FROM slipway.ledger WHERE run_id = %(run)s
"""
