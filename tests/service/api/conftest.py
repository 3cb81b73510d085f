"""A fake model and the real service on it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.fake_model import FakeModel
from tests.support.service import RunningService, running_service


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as fake:
        yield fake


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    """The react example on the fake model: one model call a turn, unless the script calls tools."""
    async with running_service(
        database_url,
        AGENT_GRAPH="tests.support.graphs:plain",
        MODEL="gpt-4o",
        OPENAI_BASE_URL=model.url,
        OPENAI_API_KEY="sk-test",
    ) as running:
        yield running


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as http:
        yield http
