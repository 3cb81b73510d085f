"""Headers by which a browser, a cache and a frame treat every answer with care."""

import httpx
import pytest

from agent_service.server.refusals import PRIVATE, SAFE
from tests.support.service import running_service

JSON = ("/usage", "/sessions", "/nope", "/runs/not-an-id", "/v1/models", "/openapi.json")


async def answers(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    found = {path: await client.get(path) for path in JSON}
    found["POST /chat"] = await client.post("/chat", json={"question": "hello"})
    found["a bad body"] = await client.post("/chat", content="{")
    found["a stream"] = await client.post("/chat/stream", json={"question": "hello"})
    found["another method"] = await client.put("/chat")
    found["a method of no HTTP"] = await client.request("BREW", "/chat")
    found["a large body"] = await client.post("/chat", json={"question": "x" * 2_000_000})
    found["a thread"] = await client.get("/threads/11111111-1111-4111-8111-111111111111")
    found["a run of LangGraph's clients"] = await client.post("/runs/wait", json={"assistant_id": "nope"})
    found["MCP"] = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "nope"})
    found["A2A"] = await client.post("/a2a", json={"jsonrpc": "2.0", "id": 1, "method": "nope"})
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    found["a preflight"] = await client.options("/chat", headers=asked)
    return found


@pytest.mark.parametrize("origins", ["", "https://chat.example.com"])
async def test_every_answer_has_them_once_and_the_page_has_its_own(database_url: str, origins: str) -> None:
    async with running_service(database_url, CORS_ORIGINS=origins) as service, service.client() as client:
        for name, answer in (await answers(client)).items():
            for header, value in SAFE.items():
                assert answer.headers.get_list(header.decode()) == [value.decode()], name
            if answer.headers["Content-Type"] != "text/plain; charset=utf-8":  # of a preflight, which holds nothing
                assert answer.headers["Cache-Control"] == PRIVATE[b"cache-control"].decode(), name
            assert len(answer.headers.get_list("X-Request-ID")) == 1
        page = await client.get("/")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert len(page.headers.get_list("Content-Security-Policy")) == 1
        assert page.headers["Cache-Control"] == "no-cache"
        again = await client.get("/", headers={"If-None-Match": page.headers["ETag"]})
        assert (again.status_code, again.headers.get("Cache-Control")) == (304, "no-cache")
