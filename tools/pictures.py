"""Makes the pictures of the documentation from the program as it is: the chat page and the first dashboard (`make pictures`)."""

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from tools.dashboard_preview.__main__ import OUT as DASHBOARDS

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"

READY = re.compile(r"Slipway is ready: (http://\S+)")
READY_SECONDS = 120
"""An embedded PostgreSQL is made, migrated and filled; 12 s on two idle cores."""

QUESTIONS = ("How do I rotate the model's API key?",)
"""Of the documents, so that sources are seen."""

DASHBOARD: ViewportSize = {"width": 1624, "height": 920}
"""Pixels: the rows of health, traffic and latency."""

CHAT = {"chat-light": ("light", 1100), "chat-dark": ("dark", 1100), "chat-narrow": ("light", 390)}
"""Colour scheme and width in pixels."""


async def main() -> None:
    chromium = shutil.which("chromium")
    if not chromium:
        sys.exit("needs chromium (Debian: apt install chromium)")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with slipway(Path(folder)) as url, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for name, (scheme, width) in CHAT.items():
                await chat(browser, url, name, scheme, width)
            await dashboard(browser)
            await browser.close()


@asynccontextmanager
async def slipway(folder: Path) -> AsyncIterator[str]:
    """The address of a server that was started as a new user starts it, with a database of its own."""
    env = {**os.environ, "PORT": "0", "OPS_PORT": "0"}
    command = [str(Path(sys.executable).parent / "slipway"), "dev", "--dir", str(folder), "--docs", str(ROOT / "docs")]
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    if not process.stdout:
        raise AssertionError("it was asked for a pipe")
    try:
        async with asyncio.timeout(READY_SECONDS):
            async for line in process.stdout:
                if found := READY.search(line.decode()):
                    break
            else:
                sys.exit("slipway dev ended before it was ready")
        drained = asyncio.create_task(process.stdout.read())
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
    await drained


async def chat(browser: Browser, url: str, name: str, scheme: str, width: int) -> None:
    """A conversation of two questions, as its reader sees it in the end."""
    context = await browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 820}
    )
    page = await context.new_page()
    await page.goto(url)
    for number, question in enumerate(QUESTIONS, start=1):
        await ask(page, question, number)
    await save(page, name)
    await context.close()


async def ask(page: Page, question: str, number: int) -> None:
    await page.get_by_label("Question").fill(question)
    await page.keyboard.press("Enter")
    await expect(page.locator(".usage")).to_have_count(number, timeout=60_000)


async def dashboard(browser: Browser) -> None:
    """The first rows of the overview, from made-up traffic."""
    drawing = await asyncio.create_subprocess_exec(sys.executable, "-m", "tools.dashboard_preview", cwd=ROOT)
    if await drawing.wait():
        sys.exit("the dashboards were not drawn")
    page = await browser.new_page(viewport=DASHBOARD)
    await page.goto((DASHBOARDS / "slipway-overview.html").as_uri())
    await save(page, "dashboard-overview")
    await page.close()


async def save(page: Page, name: str) -> None:
    path = PICTURES / f"{name}.png"
    await page.screenshot(path=path, animations="disabled", caret="hide")
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1024} kB")  # noqa: T201  # a command


if __name__ == "__main__":
    asyncio.run(main())
