import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Route, expect

from tests.integration.page.chat import Chat
from tests.integration.page.conftest import OpenChat, Site, fake_model_env
from tests.support.fake_model import FakeModel
from tests.support.fake_script import echo_tokens
from tests.support.replicas import running_replicas
from tests.support.tokens import bearer

# A TCP proxy whose connections can be cut, as a network does.


class Proxy:
    """In front of a server on loopback; `url` is where it listens."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Resets every connection; new ones are welcome."""
        for writer in self._writers:
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        pair = {writer, upstream_writer}
        self._writers |= pair
        await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))
        self._writers -= pair


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def running_proxy(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()


pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKENS = 40


def whole(question: str) -> str:
    return "".join(echo_tokens(question, TOKENS))


async def begin(chat: Chat, model: FakeModel, question: str) -> None:
    """Asks, and returns in mid-answer, which then comes slowly until `model` is hurried."""
    model.script.tokens_per_second = 10
    await chat.type(question)
    await expect(chat.answer).to_contain_text(echo_tokens(question)[5])
    model.script.tokens_per_second = 4


def hurry(model: FakeModel) -> None:
    model.script.tokens_per_second = None


async def test_a_reload_in_mid_answer_goes_on_without_loss_or_duplicate(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    chat = await open_chat(scripted.service.url)
    await begin(chat, model, "reload")

    await chat.page.reload()
    await expect(chat.answer).to_contain_text(echo_tokens("reload")[6])
    await expect(chat.button("Stop")).to_be_visible()
    hurry(model)

    await chat.says(whole("reload"))
    await expect(chat.page.locator(".usage")).to_contain_text("completed")


@pytest.mark.usefixtures("model")
async def test_a_refused_stream_token_is_replaced(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)

    async def refuse(route: Route) -> None:
        await route.fulfill(status=401, content_type="application/problem+json", body='{"code": "unauthenticated"}')

    await chat.page.route("**/stream?*", refuse, times=1)
    await chat.ask("expired")

    await chat.says(whole("expired"))


async def test_a_cut_connection_is_picked_up_without_loss_or_duplicate(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    async with running_proxy(httpx.URL(scripted.service.url).port or 0) as proxy:
        chat = await open_chat(proxy.url)
        await begin(chat, model, "cut")
        for number in (7, 9):
            proxy.cut()
            await expect(chat.answer).to_contain_text(echo_tokens("cut")[number])
        hurry(model)
        await chat.says(whole("cut"))


async def test_a_server_that_says_reconnect_costs_no_word(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    streams = scripted.service.resources.streams
    chat = await open_chat(scripted.service.url)
    await begin(chat, model, "drained")

    streams.closing.set_result(None)
    await expect(chat.status).to_have_text("Reconnecting…")
    streams.closing = asyncio.get_running_loop().create_future()
    await expect(chat.status).to_have_text("Working…")
    hurry(model)

    await chat.says(whole("drained"))


async def test_a_server_that_is_killed_and_comes_back_costs_no_word(
    database_url: str, model: FakeModel, open_chat: OpenChat, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": database_url, "LEASE_SECONDS": "1", **fake_model_env(model)}
    async with running_replicas(1, env, tmp_path) as [only]:
        chat = await open_chat(only.url, key="")
        await begin(chat, model, "killed")

        await only.kill()
        await expect(chat.status).to_have_text("Reconnecting…")
        hurry(model)
        await only.start()

        await chat.says(whole("killed"))
        await expect(chat.page.get_by_text("another one took over (attempt 2)")).to_be_visible()
        await expect(chat.page.locator(".usage")).to_contain_text("completed")


TEN_LINES = """([question, token]) => {
    const source = new EventSource(`/chat/stream?question=${question}&token=${token}`);
    window.answer = "";
    window.connections = 0;
    source.onopen = () => (window.connections += 1);
    source.onmessage = (event) => {
        if (event.data === "[DONE]") { source.close(); window.done = true; }
        else window.answer += event.data;
    };
    source.addEventListener("reset", (event) => (window.answer = JSON.parse(event.data).text));
}"""


async def test_a_ten_line_eventsource_client_reconnects_by_itself(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    async with running_proxy(httpx.URL(scripted.service.url).port or 0) as proxy, scripted.service.client() as client:
        token = (await client.post("/auth/stream-token", headers=bearer("ten-lines"))).json()["token"]
        page = (await open_chat(f"{proxy.url}/live")).page
        model.script.tokens_per_second = 10
        await page.evaluate(TEN_LINES, ["lines", token])
        await page.wait_for_function("window.answer.includes('-5 ')")

        proxy.cut()
        await page.wait_for_function("window.connections === 2")
        hurry(model)
        await page.wait_for_function("window.done")

        assert await page.evaluate("window.answer") == whole("lines")
