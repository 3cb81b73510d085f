"""A page of another site, in the browser of somebody who can reach the service, with AUTH=disabled and without."""

import httpx
import pytest

from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.service import JWT_SECRET, RunningService
from tests.support.tokens import bearer

PAGE = "http://tools.test:3000"

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://[bad"},
    {"Host": "evil.example"},
    {"Host": "evil.example:8000", "Origin": "http://evil.example:8000", "Sec-Fetch-Site": "same-origin"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost.evil.example"},
    {"Host": ""},
    {"Host": "a@evil.example"},
]
"""What browsers say of such a page, and of one whose name was pointed at this machine (DNS rebinding)."""

OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Host": "localhost:8000", "Origin": "http://localhost:8000"},
    {"Host": "[::1]:8000", "Origin": "http://[::1]:8000", "Sec-Fetch-Site": "same-origin"},
    {"Host": "192.168.1.9"},
    {"Host": "agent.default.svc:80"},
    {"Host": "agent"},
    {"Host": "chat.example.com", "Origin": "https://chat.example.com", "Sec-Fetch-Site": "same-origin"},
    {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
]


async def calls(client: httpx.AsyncClient, headers: dict[str, str]) -> list[httpx.Response]:
    asked = {"question": "hi"}
    return [
        await client.get("/chat/stream", params=asked, headers=headers),
        await client.post("/chat", json=asked, headers=headers),
        await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]}, headers=headers),
        await client.post("/auth/stream-token", headers=headers),
        await client.get("/sessions", headers=headers),
        await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers),
        await client.post("/a2a", json={"jsonrpc": "2.0", "id": 1, "method": "GetTask"}, headers=headers),
        await client.get("/.well-known/agent-card.json", headers=headers),
    ]


async def runs(service: RunningService) -> int:
    async with service.resources.pool.connection() as conn:
        row = await (await conn.execute("SELECT count(*) AS n FROM slipway.runs")).fetchone()
    assert row
    return int(row["n"])


async def test_with_auth_disabled_another_site_starts_and_reads_nothing(database_url: str) -> None:
    env = {"ALLOWED_HOSTS": "chat.example.com", "CORS_ORIGINS": PAGE}
    async with FakeModel() as model, plain_service(database_url, model, **env) as service, service.client() as client:
        refused = [answer for headers in FOREIGN for answer in await calls(client, headers)]
        assert {answer.status_code for answer in refused} == {403}
        assert {answer.json()["code"] for answer in refused} == {"cross_site", "host_not_allowed"}
        assert await runs(service) == 0
        assert (await client.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})).status_code == 200
        served = [answer for headers in OWN for answer in await calls(client, headers)]
        assert {answer.status_code for answer in served} == {200}
        print(f"\nother sites: {len(refused)} calls, 0 runs; own: {len(served)} calls, {await runs(service)} runs")


@pytest.mark.parametrize("headers", FOREIGN[:6])
async def test_with_authentication_another_sites_page_starts_no_run_by_a_get(database_url: str, headers: dict[str, str]) -> None:
    env = {"AUTH": "required", "JWT_SECRET": JWT_SECRET, "CORS_ORIGINS": PAGE}
    async with FakeModel() as model, plain_service(database_url, model, **env) as service, service.client() as client:
        token = (await client.post("/auth/stream-token", headers=bearer("alice"))).json()["token"]
        asked = {"question": "hi", "token": token}
        assert (await client.get("/chat/stream", params=asked, headers=headers)).status_code == 403
        assert await runs(service) == 0
        assert (await client.get("/chat/stream", params=asked, headers={"Origin": PAGE})).status_code == 200
        desktop = {"Origin": "tauri://localhost", **bearer("alice")}
        assert (await client.post("/chat", json={"question": "hi"}, headers=desktop)).status_code == 200
