"""Sign-in over HTTP: what the routes set, and what they refuse."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcServer, oidc_server
from tests.support.ports import free_port
from tests.support.service import running_service

PAGE = {"X-Slipway-Page": "1"}


@pytest.fixture
async def provider() -> AsyncIterator[OidcServer]:
    async with oidc_server() as server:
        yield server


@pytest.fixture
async def client(database_url: str, provider: OidcServer) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the service, with its cookies."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    provider.redirect_uris = [f"{url}/auth/callback"]
    env = {"OIDC_ISSUER": provider.url, "OIDC_CLIENT_ID": CLIENT_ID, "OIDC_CLIENT_SECRET": CLIENT_SECRET, "PUBLIC_URL": url}
    env |= {"AUTH": "required", "PORT": str(port), "CORS_ORIGINS": "https://other.example", "CORS_CREDENTIALS": "true"}
    async with running_service(database_url, **env) as service, service.client() as http:
        yield http


async def go_to_provider(client: httpx.AsyncClient, page: str = "chat") -> httpx.Response:
    begun = await client.post(f"/auth/sign-in?page={page}", headers=PAGE)
    assert begun.status_code == 200
    async with httpx.AsyncClient() as person:
        return await person.post(begun.json()["location"], data={"choice": "ok"})


async def sign_in(client: httpx.AsyncClient, page: str = "chat") -> httpx.Response:
    back = await go_to_provider(client, page)
    return await client.get(back.headers["Location"])


async def test_who_has_signed_in_uses_the_api_by_the_cookie_and_gets_back_to_the_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/sessions", headers=PAGE)).status_code == 401
    back = await sign_in(client, "spend")
    assert (back.status_code, back.headers["location"]) == (303, f"{client.base_url}/spend")
    assert (await client.get("/sessions", headers=PAGE)).status_code == 200
    assert (await client.post("/auth/stream-token", headers=PAGE)).status_code == 200


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: httpx.AsyncClient) -> None:
    back = await sign_in(client)
    set_cookies = back.headers.get_list("set-cookie")
    (session,) = [each.lower() for each in set_cookies if "max-age=0" not in each.lower()]
    assert "httponly" in session
    assert "samesite=strict" in session
    assert "path=/;" in f"{session};"
    assert "domain" not in session
    assert back.headers["cache-control"] == "no-store"
    assert back.headers["referrer-policy"] == "no-referrer"


async def test_a_request_without_the_pages_header_has_no_cookie(client: httpx.AsyncClient) -> None:
    """CSRF: a form or an image of another site sends the cookie at most, never the header."""
    await sign_in(client)
    assert (await client.get("/sessions")).status_code == 401
    assert (await client.post("/auth/stream-token")).status_code == 401
    for path in ("/auth/sign-in", "/auth/renew", "/auth/sign-out"):
        assert (await client.post(path)).status_code == 403


async def test_a_page_of_an_allowed_origin_cannot_send_the_header(client: httpx.AsyncClient) -> None:
    asks = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    allowed = await client.options("/sessions", headers=asks | {"Access-Control-Request-Headers": "authorization"})
    refused = await client.options("/sessions", headers=asks | {"Access-Control-Request-Headers": "x-slipway-page"})
    assert (allowed.status_code, refused.status_code) == (200, 400)


@pytest.mark.parametrize("page", ["https://evil.example", "//evil.example", "/spend", "chat/../x"])
async def test_there_is_no_address_to_come_back_to_but_the_services_pages(client: httpx.AsyncClient, page: str) -> None:
    assert (await client.post("/auth/sign-in", params={"page": page}, headers=PAGE)).status_code == 422


async def test_the_callback_goes_to_the_public_url_whatever_host_was_named(client: httpx.AsyncClient) -> None:
    back = await client.get("/auth/callback?state=x&code=y&redirect=https://evil.example", headers={"Host": "evil.example"})
    assert urlsplit(back.headers["location"]).netloc == client.base_url.netloc.decode()
    assert back.headers["location"].endswith("/?sign_in=expired")


async def test_an_authorization_header_counts_before_the_cookie(client: httpx.AsyncClient) -> None:
    await sign_in(client)
    refused = await client.get("/sessions", headers=PAGE | {"Authorization": "Bearer made-up"})
    assert refused.status_code == 401


async def test_signing_out_takes_the_cookie_away(client: httpx.AsyncClient) -> None:
    await sign_in(client)
    ended = await client.post("/auth/sign-out", headers=PAGE)
    assert urlsplit(ended.json()["location"]).path == "/end"
    assert "token" not in ended.json()["location"]
    assert (await client.get("/sessions", headers=PAGE)).status_code == 401


async def test_while_the_provider_is_away_a_page_is_told_so_and_may_try_again(
    client: httpx.AsyncClient, provider: OidcServer
) -> None:
    back = await go_to_provider(client)
    provider.away = True
    assert (await client.get(back.headers["Location"])).headers["location"].endswith("/?sign_in=unavailable")
    provider.away = False
    assert (await sign_in(client)).headers["location"] == f"{client.base_url}/"


async def test_nothing_of_a_sign_in_stands_in_the_log(client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]) -> None:
    back = await go_to_provider(client)
    await client.get(back.headers["Location"])
    await client.get(back.headers["Location"] + "x")
    told = "".join(capfd.readouterr())
    for secret in (*dict(httpx.URL(back.headers["Location"]).params).values(), *client.cookies.values(), CLIENT_SECRET):
        assert secret not in told or secret.startswith("http://")


async def test_without_an_issuer_there_is_no_sign_in(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as http:
        assert (await http.post("/auth/sign-in", headers=PAGE)).status_code == 404
        assert (await http.get("/auth/callback")).status_code == 404
