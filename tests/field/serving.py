"""A served graph of one test module: `build` of that module is what AGENT_GRAPH names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support import sse
from tests.support.service import RunningService, running_service


@asynccontextmanager
async def served(database_url: str, module: str, build: str = "build", **env: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(database_url, AGENT_GRAPH=f"{module}:{build}", **env) as service, service.client() as client:
        yield client


async def ask(client: httpx.AsyncClient, question: str = "go", **body: Any) -> dict[str, Any]:
    response = await client.post("/chat", json={"question": question, **body})
    assert response.status_code == 200, response.text
    run: dict[str, Any] = response.json()
    return run


async def stream(client: httpx.AsyncClient, question: str = "go", **body: Any) -> sse.Stream:
    return await sse.read(client, "POST", "/chat/stream", json={"question": question, **body})


__all__ = ["RunningService", "ask", "served", "stream"]
