"""The real Python SDK, on Slipway, or on the reference with `-m reference`."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.sites import SITES, Site, running_site, script
from tests.support.fake_model import FakeModel


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=SITES)
async def site(request: pytest.FixtureRequest, admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    async with (
        FakeModel(script()) as model,
        running_site(request.param, model_url=model.url, admin_url=admin_url, folder=folder) as running,
    ):
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(site: Site) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=site.url, api_key=None) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def http(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """The bare wire."""
    async with httpx.AsyncClient(base_url=site.url, timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def thread(sdk: LangGraphClient) -> str:
    """The id of a new thread."""
    return (await sdk.threads.create())["thread_id"]
