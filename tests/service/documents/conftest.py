from collections.abc import AsyncIterator

import pytest

from agent_service.db.pool import Pool, make_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size=2, timeout=5) as pool:
        yield pool
