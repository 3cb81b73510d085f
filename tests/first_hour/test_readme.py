"""The first hour: each command of the README is typed as it stands there, in a clone in an empty home, with a browser."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.first_hour.readme import PAGE, ROOT, TYPED, in_the_text, matching
from tests.integration.page.chat import Chat
from tests.support.dev import READY_SECONDS, project_folder
from tests.support.fake_model import FakeModel
from tests.support.fake_script import ToolCall, echo_tokens
from tests.support.ports import free_port

# A clone in an empty home, and a terminal in it.

INSTALL_SECONDS = 900.0
"""For the packages too, which took 92 s on two idle cores."""

KEPT = ("PATH", "LANG", "TMPDIR", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""What a new user's shell has as well; and what leads pip to its index."""


class Started:
    """A command that goes on. `log` holds both of what it writes."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def until(self, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Raises TimeoutError, and RuntimeError when the command ends before."""
        async with asyncio.timeout(seconds):
            while not condition():
                if self.process.returncode is not None:
                    raise RuntimeError(f"exit code {self.process.returncode}: {self.log[-3000:]}")
                await asyncio.sleep(0.05)

    async def ready(self, seconds: float = READY_SECONDS) -> str:
        """Waits for the address that it prints."""
        mark = "Slipway is ready: "
        await self.until(lambda: mark in self.log, seconds)
        return self.log.partition(mark)[2].split()[0]

    async def ctrl_c(self) -> int:
        """As the terminal sends it: to all that the command started."""
        os.killpg(self.process.pid, signal.SIGINT)
        async with asyncio.timeout(READY_SECONDS):
            return await self.process.wait()

    async def end(self) -> None:
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


class Terminal:
    """`folder` is the clone; `env` is what was exported."""

    def __init__(self, folder: Path, home: Path, **env: str) -> None:
        self.folder = folder
        outside = {name: value for name, value in os.environ.items() if name.upper() in KEPT or name.startswith("PIP_")}
        path = [each for each in os.environ["PATH"].split(os.pathsep) if not Path(each).is_relative_to(sys.prefix)]
        interpreter = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        self.env = {**outside, "PATH": os.pathsep.join(path), "HOME": str(home), "PYTHON": interpreter, **env}
        self._started: list[Started] = []

    async def start(self, line: str, **env: str) -> Started:
        """Types a line, and goes on while it runs."""
        log = self.folder.parent / f"terminal-{len(self._started)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", line, cwd=self.folder, env={**self.env, **env}, stdout=output, stderr=output, start_new_session=True
            )
        self._started.append(Started(process, log))
        return self._started[-1]

    async def run(self, line: str, *, code: int = 0) -> str:
        """Types a line and waits for its end; returns what it wrote."""
        started = await self.start(line)
        async with asyncio.timeout(READY_SECONDS):
            got = await started.process.wait()
        if got != code:
            raise RuntimeError(f"{line}: exit code {got}, not {code}: {started.log[-3000:]}")
        return started.log

    async def close(self) -> None:
        for each in self._started:
            await each.end()


@asynccontextmanager
async def terminal_in_a_clone(root: Path, folder: Path, **env: str) -> AsyncIterator[Terminal]:
    """The files of `root` that are or may be committed, copied into `folder`; everything that was started is ended."""
    (folder / "home").mkdir()
    await asyncio.to_thread(_clone, root, folder / "slipway")
    terminal = Terminal(folder / "slipway", folder / "home", **env)
    try:
        yield terminal
    finally:
        await terminal.close()


def _clone(root: Path, target: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target / name)


USUAL_MILLISECONDS = 15_000
"""Of the other tests of the page, in the same process."""

QUESTION = "How do I rotate the model's API key?"
FILLED_IN = "sk-of-the-test"

BESIDE = {
    "costs": ("", "offline"),
    "ingest": ("docs/index.md", "1 unchanged|ingested"),
    "keys": ("list", ""),
    "budgets": ("show", ""),
    "prune": ("--dry-run", ""),
    "doctor": ("", "could not be told"),
}
"""Of each command that the README names beside `make run`: what completes it, and what it then says."""


class Hour:
    """`typed` are the blocks so far."""

    def __init__(self, terminal: Terminal, browser: Browser) -> None:
        self.terminal = terminal
        self.browser = browser
        self.typed: list[str] = []

    def block(self, name: str) -> list[str]:
        """Its lines; a blank is filled in."""
        self.typed.append(name)
        (text,) = matching(TYPED[name])
        return text.replace("…", FILLED_IN).splitlines()

    async def page(self, url: str) -> Chat:
        page = await self.browser.new_page()
        await page.goto(url)
        return Chat(page)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        expect.set_options(timeout=READY_SECONDS * 1000)
        yield browser
        expect.set_options(timeout=USUAL_MILLISECONDS)
        await browser.close()


@pytest.mark.timeout(2400)
async def test_the_first_hour_goes_as_the_readme_says(browser: Browser) -> None:
    with project_folder() as folder:
        # The one thing that is not as written: others use this machine too, and port 8000 with it.
        ports = {"PORT": str(free_port()), "OPS_PORT": str(free_port())}
        async with terminal_in_a_clone(ROOT, folder, **ports) as terminal, FakeModel() as model:
            hour = Hour(terminal, browser)
            await chat_and_kill(hour)
            await with_a_key(hour, model)
            await own_graph(hour, model)
            await init_and_reload(hour)
            await several_graphs(hour)
            await what_the_text_names(hour)
    assert sorted(hour.typed) == sorted(TYPED)


async def chat_and_kill(hour: Hour) -> None:
    (command,) = hour.block("run")
    begun = time.monotonic()
    server = await hour.terminal.start(command)
    url = await server.ready(INSTALL_SECONDS)
    print(f"from `{command}` in an empty home to its address: {time.monotonic() - begun:.0f} s")  # noqa: T201  # a figure
    (curl,) = hour.block("curl")
    assert "data: [DONE]" in await hour.terminal.run(curl.replace("http://127.0.0.1:8000", url))
    chat = await hour.page(url)
    await chat.ask(QUESTION)
    undisturbed = await chat.answer.inner_text()
    await expect(chat.page.locator(".sources li")).not_to_have_count(0)
    await beside(hour)

    first, *kill_and_start = (line.partition("#")[0] for line in hour.block("crash"))
    assert first == command, "it runs already"
    await chat.button("New session").click()
    await chat.type(QUESTION)
    await expect(chat.answer).to_contain_text(undisturbed[:20])
    await hour.terminal.run(kill_and_start[0])
    assert await server.process.wait() != 0
    assert "Killed" in server.log
    server = await hour.terminal.start(kill_and_start[1])
    assert await server.ready() == url
    await expect(chat.page.locator("p.note").filter(has_text="took over")).to_contain_text("took over (attempt 2)")
    await expect(chat.page.locator(".usage")).to_contain_text("completed")
    assert await chat.answer.inner_text() == undisturbed
    await leave(chat, server)


async def beside(hour: Hour) -> None:
    """What else the README names while it runs: none of it is told where the database is."""
    (first,) = (each for each in in_the_text() if each.endswith("slipway costs"))
    slipway = first.removesuffix(" costs")
    named = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if f"`{first}`" in line).partition(f"`{first}`")[
        2
    ]
    assert {"costs", *re.findall(r"`([a-z]+)`", named)} == set(BESIDE)
    for name, (rest, said) in BESIDE.items():
        assert re.search(said, await hour.terminal.run(f"{slipway} {name} {rest}")), name


async def with_a_key(hour: Hour, model: FakeModel) -> None:
    (command,) = hour.block("model")
    server = await hour.terminal.start(command, OPENAI_BASE_URL=model.url)
    chat = await hour.page(await server.ready())
    await chat.ask_anew("which model")
    await chat.says("".join(echo_tokens("which model", model.script.token_count)))
    assert (model.keys[-1], model.models[-1]) == (FILLED_IN, re.findall(r"MODEL=(\S+)", command)[0])
    await leave(chat, server)


async def own_graph(hour: Hour, model: FakeModel) -> None:
    (hour.terminal.folder / "agent.py").write_text("\n".join(hour.block("graph")) + "\n")
    model.script.tool_calls = [ToolCall(name="weather", arguments={"city": "Porto"})]
    model.script.tokens = ["Take ", "no ", "umbrella."]
    (command,) = hour.block("own graph")
    server = await hour.terminal.start(command, OPENAI_BASE_URL=model.url)
    chat = await hour.page(await server.ready())
    await chat.ask_anew("Do I need an umbrella in Porto?")
    await chat.says("Take no umbrella.")
    assert "It is sunny in Porto." in str(model.requests[-1].payload)
    await leave(chat, server)


async def init_and_reload(hour: Hour) -> None:
    init, serve = hour.block("init")
    assert serve in await hour.terminal.run(init), "it says what to type next, as the README does"
    server = await hour.terminal.start(serve)
    chat = await hour.page(await server.ready())
    await chat.ask_anew("When are you open on Monday?")
    await expect(chat.answer).to_contain_text("closed")
    agent = hour.terminal.folder / "my-agent" / "agent.py"
    agent.write_text(agent.read_text().replace('"monday": "closed"', '"monday": "open at night"'))
    await server.until(lambda: "reloaded (" in server.log)
    await chat.ask("When are you open on Monday?")
    await expect(chat.answer).to_contain_text("open at night")
    await leave(chat, server)


async def several_graphs(hour: Hour) -> None:
    """The reader's own langgraph.json is one of the tests', with two graphs to chat with, and one that takes numbers."""
    shutil.copytree(ROOT / "tests" / "data" / "project", hour.terminal.folder / "path" / "to")
    (command,) = hour.block("several graphs")
    server = await hour.terminal.start(command)
    chat = await hour.page(await server.ready())
    await expect(chat.page.get_by_label("Agent").locator("option")).to_have_text(["echo", "asking"])
    await leave(chat, server)


async def what_the_text_names(hour: Hour) -> None:
    """Commands in its sentences: those of make exist, and the doctor of a release says that there is no cluster."""
    named = in_the_text()
    for target in {each for each in named if each.startswith("make ")}:
        await hour.terminal.run(f"{target} --dry-run")
    (doctor,) = (each for each in named if each.startswith("slipway doctor --release"))
    assert "cluster" in await hour.terminal.run(f".venv/bin/{doctor}", code=2)


async def leave(chat: Chat, server: Started) -> None:
    await chat.page.close()
    assert await server.ctrl_c() in (0, 2, -signal.SIGINT)
