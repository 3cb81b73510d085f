"""A fake model and the real service on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from tests.support.fake_model import FakeModel
from tests.support.service import RunningService, running_service


async def until_ended(service: RunningService, outcome: str) -> None:
    """Waits until a run has ended so."""
    async with asyncio.timeout(20):
        while not await service.metric("agent_runs_total", outcome=outcome):
            await asyncio.sleep(0.02)


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as fake:
        yield fake


def plain_service(database_url: str, model: FakeModel, **env: str) -> AbstractAsyncContextManager[RunningService]:
    """The react example on the fake model: one model call a turn, unless the script calls tools."""
    settings = {
        "AGENT_GRAPH": "tests.support.graphs:plain",
        "MODEL": "gpt-4o",
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "sk-test",
    }
    return running_service(database_url, **{**settings, **env})


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    async with plain_service(database_url, model) as running:
        yield running


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as http:
        yield http
