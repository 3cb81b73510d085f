"""Headers by which a browser, a cache and a frame treat every answer with care."""

import httpx
import pytest

from agent_service.middleware.request_id import PRIVATE, SAFE
from tests.support.service import running_service

JSON = ("/usage", "/sessions", "/nope", "/runs/not-an-id", "/v1/models", "/openapi.json")


async def answers(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    found = {path: await client.get(path) for path in JSON}
    found["POST /chat"] = await client.post("/chat", json={"question": "hello"})
    found["a bad body"] = await client.post("/chat", content="{")
    found["a stream"] = await client.post("/chat/stream", json={"question": "hello"})
    found["another method"] = await client.put("/chat")
    return found


@pytest.mark.parametrize("origins", ["", "https://chat.example.com"])
async def test_every_answer_has_them_once_and_the_page_has_its_own(database_url: str, origins: str) -> None:
    async with running_service(database_url, CORS_ORIGINS=origins) as service, service.client() as client:
        for name, answer in (await answers(client)).items():
            for header, value in SAFE.items():
                assert answer.headers.get_list(header.decode()) == [value.decode()], name
            assert answer.headers["Cache-Control"] == PRIVATE[b"cache-control"].decode(), name
            assert len(answer.headers.get_list("X-Request-ID")) == 1
        page = await client.get("/")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert len(page.headers.get_list("Content-Security-Policy")) == 1
        assert page.headers["Cache-Control"] == "no-cache"
        again = await client.get("/", headers={"If-None-Match": page.headers["ETag"]})
        assert (again.status_code, again.headers.get("Cache-Control")) == (304, "no-cache")
