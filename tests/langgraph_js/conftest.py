"""JavaScript clients as they are released, on Slipway, or on the reference with `-m 'clients and reference'`.

`make clients` installs them and builds their pages; screenshots go to the folder SCREENSHOTS, if it is set.
"""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from playwright.async_api import Browser, Page

from tests.conformance.langgraph.sites import SITES, running_site, script
from tests.integration.page.conftest import browser  # noqa: F401  # pytest finds it here
from tests.support.fake_model import FakeModel

BUILT = Path(sys.prefix) / "clients"
PAGES = ("use_stream", "use_stream_v2", "agent_chat")

OpenPage = Callable[..., Awaitable[Page]]


@dataclass(frozen=True, slots=True)
class Stage:
    """The server under test, its model, and where the pages are: each of an origin of its own."""

    url: str
    model: FakeModel
    pages: dict[str, str]
    is_reference: bool


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pages() -> AsyncIterator[dict[str, str]]:
    if not (BUILT / ".made").exists():
        pytest.skip("needs the clients that `make clients` installs")
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(_Folder(BUILT / "pages" / name)) for name in PAGES}


class _Folder:
    """Serves a folder's files on loopback while it is entered; index.html for what is none."""

    def __init__(self, folder: Path) -> None:
        async def index(_: web.Request) -> web.FileResponse:
            return web.FileResponse(folder / "index.html")

        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_static("/", folder)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=SITES)
async def _stage(
    request: pytest.FixtureRequest, admin_url: str, pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    folder, origins = tmp_path_factory.mktemp("site"), ",".join(pages.values())
    async with (
        FakeModel(script()) as model,
        running_site(request.param, model_url=model.url, admin_url=admin_url, folder=folder, CORS_ORIGINS=origins) as site,
    ):
        yield Stage(site.url, model, pages, site.is_reference)


@pytest.fixture
def stage(_stage: Stage) -> Stage:
    """With the suite's script of the model."""
    _stage.model.script = script()
    return _stage


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(stage: Stage) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stage.url, api_key=None) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(stage: Stage, browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[OpenPage]:  # noqa: F811  # pytest's way
    """Opens a page of that name on the server; its scripts must not fail. In the end each is photographed."""
    failures: list[str] = []
    folder = os.environ.get("SCREENSHOTS")
    async with AsyncExitStack() as stack:

        async def open_page(name: str, **query: Any) -> Page:
            context = await browser.new_context(viewport={"width": 1280, "height": 900})
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.on("pageerror", lambda error: failures.append(str(error)))
            if folder:
                shot = Path(folder) / f"{request.node.name}.png"
                stack.push_async_callback(page.screenshot, path=shot)
            await page.goto(f"{stage.pages[name]}/?{urlencode(query)}")
            return page

        yield open_page
    assert failures == []
