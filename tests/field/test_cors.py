"""A page of another origin calls the API: https://github.com/pinecone-io/canopy/issues/284, https://github.com/lm-sys/RouteLLM/issues/43.

There the preflight is a 405, and the page sees neither answers nor errors.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from agent_service.errors import SettingsError
from agent_service.settings import load_settings
from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.service import JWT_SECRET, RunningService
from tests.support.tokens import bearer

PAGE = "https://chat.example.com"
OTHER = "https://evil.example"
ENV = {"AUTH": "required", "JWT_SECRET": JWT_SECRET, "MAX_BODY_BYTES": "5000"}


def service_for(database_url: str, model: FakeModel) -> AbstractAsyncContextManager[RunningService]:
    return plain_service(database_url, model, CORS_ORIGINS=f"http://a.test:1,{PAGE}", **ENV)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/chat", "authorization,content-type,idempotency-key"),
        ("POST", "/v1/chat/completions", "authorization,content-type,x-stainless-lang,x-stainless-retry-count"),
        ("GET", "/chat/stream", "authorization,last-event-id"),
        ("DELETE", "/sessions/x", "authorization"),
    ],
)
async def test_a_page_of_a_listed_origin_may_ask(database_url: str, method: str, path: str, headers: str) -> None:
    async with FakeModel() as model, service_for(database_url, model) as service, service.client() as client:
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
        allowed = await client.options(path, headers={"Origin": PAGE, **asked})
        refused = await client.options(path, headers={"Origin": OTHER, **asked})
        prefix = await client.options(path, headers={"Origin": f"{PAGE}.evil.example", **asked})

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in allowed.headers
    for answer in (refused, prefix):
        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers


async def test_answers_and_errors_can_be_read_by_the_page(database_url: str) -> None:
    async with FakeModel() as model, service_for(database_url, model) as service, service.client() as client:
        mine = {"Origin": PAGE, **bearer("alice")}

        async def call(status: int, **options: Any) -> httpx.Response:
            options = {"method": "POST", "url": "/chat", "headers": mine, "json": {"question": "hi"}, **options}
            answer = await client.request(**options)
            assert answer.status_code == status, answer.text
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "retry-after" in answer.headers["access-control-expose-headers"].lower()
            return answer

        answered = await call(200)
        exposed = {name.strip().lower() for name in answered.headers["access-control-expose-headers"].split(",")}
        told = {"ratelimit-limit", "ratelimit-policy", "ratelimit-remaining", "ratelimit-reset"}
        assert told <= exposed & set(answered.headers)
        await call(202, headers={**mine, "Prefer": "respond-async"})
        await call(401, headers={"Origin": PAGE})
        await call(413, json={"question": "x" * 6000})
        await call(422, json={})
        await call(404, url="/nope")
        await call(431, headers={**mine, "X-Filler": "x" * 40_000})
        service.resources.streams._most = 0
        await call(429)
        stream = await client.get("/chat/stream", params={"question": "x"}, headers={"Origin": OTHER, **bearer("alice")})
        assert stream.status_code == 403
        plain = await client.get("/v1/models", headers=bearer("alice"))
        assert "access-control-allow-origin" not in plain.headers


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"CORS_ORIGINS": "chat.example.com"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://chat.example.com/"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "https://*.example.com/x"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "null"}, "CORS_ORIGINS"),
        ({"CORS_ORIGINS": "*", "CORS_CREDENTIALS": "true"}, "CORS_CREDENTIALS"),
        ({"CORS_ORIGINS": "*", "AUTH": "disabled"}, "AUTH=disabled"),
        ({"ALLOWED_HOSTS": "a:80"}, "ALLOWED_HOSTS"),
    ],
)
def test_what_lets_too_many_in_is_refused_at_the_start(env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings({**ENV, **env})
