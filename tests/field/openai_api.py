"""The OpenAI wire of a served graph, by OpenAI's own client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai

from tests.support.service import running_service


@dataclass(frozen=True, slots=True)
class Api:
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient

    async def post(self, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """A request as it is written here: the client's own would leave `null` out."""
        return await self.http.post("/v1/chat/completions", json=body, headers=headers)

    async def says(self, headers: dict[str, str] | None = None, **body: Any) -> str:
        answer = await self.post(headers, **body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])


@asynccontextmanager
async def openai_api(database_url: str, graph: str, **env: str) -> AsyncIterator[Api]:
    async with (
        running_service(database_url, AGENT_GRAPH=graph, **env) as service,
        service.client() as http,
        openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as client,
    ):
        yield Api(client, http)


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Any:
    return {"role": "assistant", "content": content, **more}
