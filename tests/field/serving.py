"""A served graph of one test module: `build` of that module is what AGENT_GRAPH names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
from aiohttp import web

from tests.support import sse
from tests.support.service import RunningService, running_service


@asynccontextmanager
async def served(database_url: str, module: str, build: str = "build", **env: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(database_url, AGENT_GRAPH=f"{module}:{build}", **env) as service, service.client() as client:
        yield client


class ModelEndpoint:
    """On loopback while it is entered; a test's own says what it answers."""

    def __init__(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        self._runner = web.AppRunner(app, access_log=None)

    @property
    def url(self) -> str:
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def ask(client: httpx.AsyncClient, question: str = "go", **body: Any) -> dict[str, Any]:
    response = await client.post("/chat", json={"question": question, **body})
    assert response.status_code == 200, response.text
    run: dict[str, Any] = response.json()
    return run


async def stream(client: httpx.AsyncClient, question: str = "go", **body: Any) -> sse.Stream:
    return await sse.read(client, "POST", "/chat/stream", json={"question": question, **body})


__all__ = ["ModelEndpoint", "RunningService", "ask", "served", "stream"]
