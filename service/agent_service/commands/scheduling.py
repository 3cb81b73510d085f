"""`slipway crons`."""

from typing import Any
from uuid import UUID

from agent_service.commands.database import command_pool
from agent_service.db.pool import connection
from agent_service.runs.usage import ROW_LIMIT
from agent_service.settings import Settings


async def all_crons(settings: Settings) -> tuple[list[dict[str, Any]], bool]:
    """Everybody's crons, the next first, and whether ROW_LIMIT cut them."""
    async with command_pool(settings) as pool, connection(pool) as conn:
        rows = await (await conn.execute(ALL, (ROW_LIMIT + 1,))).fetchall()
    return rows[:ROW_LIMIT], len(rows) > ROW_LIMIT


async def delete_cron(settings: Settings, cron_id: UUID) -> bool:
    """Whether there was one."""
    async with command_pool(settings) as pool, connection(pool) as conn:
        return (await conn.execute(b"DELETE FROM slipway.crons WHERE id = %s", (cron_id,))).rowcount > 0


ALL = b"""
SELECT id::text AS cron, tenant, user_id AS "user", graph, schedule, coalesce(timezone, 'UTC') AS timezone, enabled,
       next_run AS next, last_run_id::text AS last_run, last_error
FROM slipway.crons ORDER BY next_run NULLS LAST, id LIMIT %s
"""
