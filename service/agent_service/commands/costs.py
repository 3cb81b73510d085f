"""`slipway costs`."""

from datetime import datetime
from typing import Any

from agent_service.commands.database import command_pool
from agent_service.errors import SettingsError
from agent_service.runs.usage import GROUPS, usage
from agent_service.settings import Settings


async def cost_report(settings: Settings, by: str, since: datetime) -> list[dict[str, Any]]:
    """Everyone's rows."""
    names = [name.strip() for name in by.split(",")]
    groups = [group for group in GROUPS if group in names]
    if len(groups) != len(names):
        raise SettingsError(f"--by: expected some of {', '.join(GROUPS)}, each once, got {by!r}")
    async with command_pool(settings) as pool:
        return await usage(pool, None, groups, since=since)
