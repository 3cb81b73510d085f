"""Tokens and cost from the ledger."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from psycopg import sql

from agent_service.db.pool import Pool, connection
from agent_service.principal import Principal

Group = Literal["day", "model", "user", "session", "route"]

GROUPS: tuple[Group, ...] = get_args(Group)

_ESCAPED = "replace(replace({}, '%%', '%%25'), '/', '%%2F')"
"""As Principal.label; the percent signs are doubled for psycopg."""

EXPRESSIONS: dict[Group, str] = {
    "day": "to_char(l.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "model": "l.model",
    "user": f"{_ESCAPED.format('l.tenant')} || '/' || {_ESCAPED.format('l.user_id')}",
    "session": "l.session_id",
    "route": "coalesce(r.route, '')",
}

ROW_LIMIT = 10_000
"""Groups of one report; a year of days for 27 models."""


async def usage(
    pool: Pool,
    principal: Principal | None,
    group_by: Sequence[Group],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """Rows of tokens and USD (UTC days), by the groups asked for, of what the principal may see; None sees everyone's.

    Sessions of several users are told apart by the user: each has ids of its own.
    """
    everyone = principal is None or principal.role == "platform"
    several = principal is None or principal.role != "user"
    if several and "session" in group_by and "user" not in group_by:
        group_by = [group for group in GROUPS if group in {*group_by, "user"}]
    columns = [sql.SQL("{} AS {}").format(sql.SQL(EXPRESSIONS[g]), sql.Identifier(g)) for g in group_by]
    keys = sql.SQL(", ").join(sql.SQL(str(n + 1)) for n in range(len(group_by)))
    query = sql.SQL(USAGE).format(
        groups=sql.SQL(", ").join([*columns, sql.SQL("")]) if columns else sql.SQL(""),
        tail=sql.SQL("GROUP BY {keys} ORDER BY {keys}").format(keys=keys) if columns else sql.SQL(""),
    )
    values = {
        "tenant": None if everyone or principal is None else principal.tenant,
        "user": None if several or principal is None else principal.user,
        "since": since,
        "until": until,
        "limit": ROW_LIMIT,
    }
    async with connection(pool) as conn:
        return await (await conn.execute(query, values)).fetchall()


USAGE = """
SELECT {groups}count(*) AS model_calls, count(DISTINCT l.run_id) AS runs,
       coalesce(sum(l.input_tokens), 0)::bigint AS input_tokens, coalesce(sum(l.cached_tokens), 0)::bigint AS cached_tokens,
       coalesce(sum(l.output_tokens), 0)::bigint AS output_tokens, coalesce(sum(l.cost_usd), 0)::float8 AS cost_usd,
       count(*) FILTER (WHERE l.cost_usd IS NULL) AS unpriced_calls
FROM slipway.ledger l LEFT JOIN slipway.runs r ON r.id = l.run_id
WHERE (%(tenant)s::text IS NULL OR l.tenant = %(tenant)s) AND (%(user)s::text IS NULL OR l.user_id = %(user)s)
  AND (%(since)s::timestamptz IS NULL OR l.created_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR l.created_at < %(until)s)
{tail}
LIMIT %(limit)s
"""


async def run_usage(pool: Pool, run_id: UUID) -> dict[str, Any]:
    """Tokens and cost of one run, over all its attempts; cost is None when a call has no price."""
    async with connection(pool) as conn:
        row = await (await conn.execute(RUN_USAGE, (run_id,))).fetchone()
    return row or {}


RUN_USAGE = """
SELECT count(*) AS model_calls, coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
       coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens, coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
       CASE WHEN count(*) = count(cost_usd) THEN coalesce(sum(cost_usd), 0)::float8 END AS cost_usd
FROM slipway.ledger WHERE run_id = %s
"""
