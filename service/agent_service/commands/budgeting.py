"""`slipway budgets`."""

from decimal import Decimal
from typing import Any

from agent_service.commands.database import command_pool
from agent_service.db.pool import connection
from agent_service.errors import SettingsError
from agent_service.prices import MOST_USD
from agent_service.runs.usage import ROW_LIMIT
from agent_service.settings import Settings


async def set_budget(settings: Settings, tenant: str, user: str, *, tokens: int | None, usd: Decimal | None) -> None:
    """`user` empty: the tenant's month. None: no limit."""
    if tokens is None and usd is None:
        raise SettingsError("expected --tokens, --usd or both")
    if usd is not None and not 0 <= usd <= MOST_USD:  # nor NaN, which compares with nothing
        raise SettingsError(f"--usd: expected 0 to {MOST_USD}")
    async with command_pool(settings) as pool, connection(pool) as conn:
        await conn.execute(SET, (tenant, user, tokens, usd))


async def unset_budget(settings: Settings, tenant: str, user: str) -> bool:
    """Whether there was one."""
    async with command_pool(settings) as pool, connection(pool) as conn:
        return (await conn.execute(UNSET, (tenant, user))).rowcount > 0


async def all_budgets(settings: Settings) -> tuple[list[dict[str, Any]], bool]:
    """What was set or spent in this day or month (limits are None where there is none), and whether ROW_LIMIT cut it."""
    limits = settings.budget_limits
    usual = (limits.month_tokens, limits.month_usd, limits.day_tokens, limits.day_usd)
    async with command_pool(settings) as pool, connection(pool) as conn:
        rows = await (await conn.execute(SHOW, (*usual, ROW_LIMIT + 1))).fetchall()
    return rows[:ROW_LIMIT], len(rows) > ROW_LIMIT


SET = """
INSERT INTO slipway.budgets AS b (tenant, user_id, tokens, usd) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant, user_id) DO UPDATE SET tokens = EXCLUDED.tokens, usd = EXCLUDED.usd
"""

UNSET = "DELETE FROM slipway.budgets WHERE tenant = %s AND user_id = %s"

SHOW = """
SELECT tenant, user_id AS "user", CASE user_id WHEN '' THEN 'month' ELSE 'day' END AS period,
       coalesce(s.tokens, 0) AS tokens, CASE WHEN b.tenant IS NULL THEN usual.tokens ELSE b.tokens END AS max_tokens,
       coalesce(s.usd, 0) AS usd, CASE WHEN b.tenant IS NULL THEN usual.usd ELSE b.usd END AS max_usd,
       b.tenant IS NOT NULL AS own
FROM slipway.budgets b
FULL JOIN (
    SELECT * FROM slipway.spending
    WHERE period = CASE user_id WHEN '' THEN date_trunc('month', now() AT TIME ZONE 'UTC') ELSE now() AT TIME ZONE 'UTC' END::date
) AS s USING (tenant, user_id)
JOIN (VALUES (true, %s::bigint, %s::numeric), (false, %s::bigint, %s::numeric)) AS usual (of_tenant, tokens, usd)
  ON usual.of_tenant = (user_id = '')
ORDER BY tenant, user_id LIMIT %s
"""
