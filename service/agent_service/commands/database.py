"""The few connections of a command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from agent_service.db.address import Address
from agent_service.db.pool import Pool, make_pool
from agent_service.db.session_settings import connect_string
from agent_service.settings import Settings

POOL_SIZE = 2
TIMEOUT_SECONDS = 10.0


@asynccontextmanager
async def command_pool(settings: Settings) -> AsyncIterator[Pool]:
    """A pool for one command. Raises psycopg.OperationalError at once when the database cannot be reached."""
    address = Address.of(settings)
    # A pool would try again for 10 s, and log each attempt; a connection of its own fails at once, and says why.
    await (await psycopg.AsyncConnection.connect(connect_string(address))).close()
    async with make_pool(address, size=POOL_SIZE, timeout=TIMEOUT_SECONDS, pooler=settings.database_pooler) as pool:
        yield pool
