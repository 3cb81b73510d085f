"""`slipway prune`."""

from agent_service.commands.database import command_pool
from agent_service.runs.prune import Pruned, Retention, prunable, prune
from agent_service.settings import Settings


async def prune_database(settings: Settings, *, dry_run: bool) -> Pruned | None:
    """What was pruned, or would be; None when another process prunes."""
    retention = Retention.of(settings)
    async with command_pool(settings) as pool:
        return await (prunable(pool, retention) if dry_run else prune(pool, retention))
