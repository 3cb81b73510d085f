"""A fake model that paces its tokens, and replicas on one database."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel(Script(token_count=40, tokens_per_second=20)) as fake:
        yield fake


@pytest.fixture
def env(database_url: str, model: FakeModel) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "AGENT_GRAPH": "tests.support.graphs:plain",
        "MODEL": "gpt-4o",
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "sk-test",
        "LEASE_SECONDS": "2",
        "LOG_LEVEL": "info",
        "DRAIN_SECONDS": "20",
    }


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(timeout=httpx.Timeout(5, read=20), limits=limits) as http:
        yield http
