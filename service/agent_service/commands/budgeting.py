"""`slipway budgets`."""

from decimal import Decimal
from typing import Any

from agent_service.commands.database import command_pool
from agent_service.db.pool import connection
from agent_service.errors import SettingsError
from agent_service.prices import MOST_USD
from agent_service.runs.budget_report import budget_report
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
    """Everyone's, as budget_report has them."""
    async with command_pool(settings) as pool:
        return await budget_report(pool, None, settings.budget_limits)


SET = """
INSERT INTO slipway.budgets AS b (tenant, user_id, tokens, usd) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant, user_id) DO UPDATE SET tokens = EXCLUDED.tokens, usd = EXCLUDED.usd
"""

UNSET = "DELETE FROM slipway.budgets WHERE tenant = %s AND user_id = %s"
