"""One browser for each worker, the real service behind it, and pages that fail their test when a script of theirs does."""

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, async_playwright, expect

from agent_service.child_processes import Workers
from agent_service.documents.ingest import ingest
from tests.integration.page.chat import Chat
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.postgres import fresh_database
from tests.support.service import JWT_SECRET, RunningService, running_service
from tests.support.tokens import bearer

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DOCUMENT = "# Harbour manual\n\n## Mooring\nA vessel is moored with two ropes before its engine stops.\n"

expect.set_options(timeout=15_000)

OpenChat = Callable[..., Awaitable[Chat]]


@dataclass(frozen=True, slots=True)
class Site:
    """A running service on a database of its own."""

    service: RunningService
    database_url: str


@asynccontextmanager
async def running_site(admin_url: str, **env: str) -> AsyncIterator[Site]:
    with fresh_database(admin_url) as url:
        async with running_service(url, AUTH="required", JWT_SECRET=JWT_SECRET, **env) as service:
            yield Site(service, url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def offline(admin_url: str, tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> AsyncIterator[Site]:
    """The default graph on the offline model, with one document."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "harbour.md").write_text(DOCUMENT)
    async with running_site(admin_url) as site:
        await ingest([folder], site.service.resources.pool, workers)
        yield site


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
def model(_model: FakeModel) -> FakeModel:
    """The model of `scripted`, with a fresh script of 40 tokens."""
    _model.script = Script(token_count=40)
    return _model


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scripted(admin_url: str, _model: FakeModel) -> AsyncIterator[Site]:
    """A model that follows a script and two tools, in a loop."""
    async with running_site(admin_url, **fake_model_env(_model)) as site:
        yield site


def fake_model_env(model: FakeModel) -> dict[str, str]:
    return {
        "AGENT_GRAPH": "tests.support.graphs:plain",
        "MODEL": "gpt-4o",
        "MODEL_MAX_RETRIES": "0",
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "sk-test",
    }


@pytest_asyncio.fixture(loop_scope="session")
async def open_chat(browser: Browser) -> AsyncIterator[OpenChat]:
    """Opens the page at an address, as a caller of its own unless `key` is given; its scripts must not fail."""
    failures: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        # Chromium reports each refused or broken request here: those are what some tests are about.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            failures.append(message.text)

    async with AsyncExitStack() as contexts:

        async def open_chat(url: str, *, key: str | None = None, **options: Any) -> Chat:
            context = await browser.new_context(**options)
            contexts.push_async_callback(context.close)
            bearer_token = bearer(f"user-{uuid4().hex}")["Authorization"].split()[1] if key is None else key
            if bearer_token:
                await context.add_init_script(f"sessionStorage.setItem('slipway.key', {json.dumps(bearer_token)})")
            page = await context.new_page()
            page.on("console", on_console)
            page.on("pageerror", lambda error: failures.append(str(error)))
            await page.goto(url)
            return Chat(page)

        yield open_chat
    assert failures == []
