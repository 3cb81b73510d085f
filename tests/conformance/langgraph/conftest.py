"""A server that speaks the LangGraph wire, and the real Python SDK on it: Slipway, or the reference with `-m reference`."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.reference import reference_server
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, ToolCall
from tests.support.postgres import fresh_database
from tests.support.service import running_service

TOKENS = ["It ", "is ", "so."]
"""What the model says to whatever it is asked."""

HERE = "tests.conformance.langgraph.graphs"


@dataclass(frozen=True, slots=True)
class Site:
    """agent, counter: base URL and graph name of each of the two graphs."""

    agent: tuple[str, str]
    counter: tuple[str, str]
    is_reference: bool


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test twice: on Slipway, and, when `-m reference` asks for it, on the reference server."""
    if "site" in metafunc.fixturenames:
        marked = [pytest.param("slipway"), pytest.param("reference", marks=pytest.mark.reference)]
        metafunc.parametrize("site", marked, indirect=True, scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel(Script(tokens=TOKENS, tool_calls=[ToolCall(name="weather", arguments={"city": "Paris"})])) as fake:
        yield fake


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(
    request: pytest.FixtureRequest, admin_url: str, model: FakeModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        if request.param == "reference":
            program = os.environ.get("REFERENCE_LANGGRAPH", "langgraph")
            if not shutil.which(program):
                pytest.skip(f"needs the reference server: set REFERENCE_LANGGRAPH to its program, {program!r} is none")
            folder = tmp_path_factory.mktemp("reference")
            url = await stack.enter_async_context(reference_server(program, folder, model.url))
            yield Site((url, "agent"), (url, "counter"), is_reference=True)
            return
        env = {"MODEL": "gpt-4o", "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test"}
        urls = []
        for graph in ("served", "counter"):
            database = stack.enter_context(fresh_database(admin_url))
            service = running_service(database, AGENT_GRAPH=f"{HERE}:{graph}", **env)
            urls.append((await stack.enter_async_context(service)).url)
        yield Site((urls[0], "agent"), (urls[1], "agent"), is_reference=False)


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(site: Site) -> AsyncIterator[LangGraphClient]:
    """Of the graph `agent`."""
    async with get_client(url=site.agent[0], api_key=None) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def counter(site: Site) -> AsyncIterator[LangGraphClient]:
    """Of the server that has the graph `counter`."""
    async with get_client(url=site.counter[0], api_key=None) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def http(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """The bare wire of the graph `agent`."""
    async with httpx.AsyncClient(base_url=site.agent[0], timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def thread(sdk: LangGraphClient) -> str:
    """The id of a new thread."""
    return (await sdk.threads.create())["thread_id"]
