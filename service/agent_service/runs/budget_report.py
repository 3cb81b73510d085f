"""What has been spent of which budget in this day or month: for `slipway budgets show`, GET /budgets and their page."""

from typing import Any

from agent_service.caller_limits import BudgetLimits
from agent_service.db.pool import Pool, connection
from agent_service.principal import Principal
from agent_service.runs.usage import ROW_LIMIT


async def budget_report(pool: Pool, principal: Principal | None, limits: BudgetLimits) -> tuple[list[dict[str, Any]], bool]:
    """Rows of what the principal may see, and whether ROW_LIMIT cut them; None sees everyone's.

    A row is of a tenant's month (`user` is empty) or a user's day; its limits are None where there is none. A user sees the own
    one, also before anything was spent; an admin the tenant and its users; the platform all.
    """
    everyone = principal is None or principal.role == "platform"
    values = {
        "tenant": None if everyone or principal is None else principal.tenant,
        "user": None if everyone or principal is None or principal.role == "admin" else principal.user,
        "own_tenant": principal.tenant if principal else None,
        "own_user": principal.user if principal else None,
        "month_tokens": limits.month_tokens,
        "month_usd": limits.month_usd,
        "day_tokens": limits.day_tokens,
        "day_usd": limits.day_usd,
        "limit": ROW_LIMIT + 1,
    }
    async with connection(pool) as conn:
        rows = await (await conn.execute(SHOW, values)).fetchall()
    return rows[:ROW_LIMIT], len(rows) > ROW_LIMIT


SHOW = """
WITH known AS (
    SELECT tenant, user_id FROM slipway.budgets
    UNION SELECT tenant, user_id FROM slipway.spending
    WHERE period = CASE user_id WHEN '' THEN date_trunc('month', now() AT TIME ZONE 'UTC') ELSE now() AT TIME ZONE 'UTC' END::date
    UNION SELECT %(own_tenant)s, %(own_user)s WHERE %(own_tenant)s::text IS NOT NULL
)
SELECT k.tenant, k.user_id AS "user", CASE k.user_id WHEN '' THEN 'month' ELSE 'day' END AS period,
       coalesce(s.tokens, 0) AS tokens, CASE WHEN b.tenant IS NULL THEN usual.tokens ELSE b.tokens END AS max_tokens,
       coalesce(s.usd, 0) AS usd, CASE WHEN b.tenant IS NULL THEN usual.usd ELSE b.usd END AS max_usd,
       b.tenant IS NOT NULL AS own
FROM known k
JOIN (VALUES (true, %(month_tokens)s::bigint, %(month_usd)s::numeric), (false, %(day_tokens)s::bigint, %(day_usd)s::numeric))
     AS usual (of_tenant, tokens, usd) ON usual.of_tenant = (k.user_id = '')
LEFT JOIN slipway.budgets b ON b.tenant = k.tenant AND b.user_id = k.user_id
LEFT JOIN slipway.spending s ON s.tenant = k.tenant AND s.user_id = k.user_id AND s.period =
     CASE k.user_id WHEN '' THEN date_trunc('month', now() AT TIME ZONE 'UTC') ELSE now() AT TIME ZONE 'UTC' END::date
WHERE (%(tenant)s::text IS NULL OR k.tenant = %(tenant)s) AND (%(user)s::text IS NULL OR k.user_id = %(user)s)
ORDER BY k.tenant, k.user_id LIMIT %(limit)s
"""
