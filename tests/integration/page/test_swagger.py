"""Swagger UI at /docs: it runs under its policy, from this service alone, and a call made in it is answered."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from tests.integration.page.conftest import OpenChat, Site, running_site
from tests.support.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def documented(admin_url: str) -> AsyncIterator[Site]:
    async with running_site(admin_url, API_DOCS="on") as site:
        yield site


async def test_it_shows_every_route_and_a_call_made_with_a_key_is_answered(documented: Site, open_chat: OpenChat) -> None:
    page = (await open_chat("about:blank", key="")).page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{documented.service.url}/docs")
    document = await page.request.get(f"{documented.service.url}/openapi.json")
    paths = (await document.json())["paths"]
    await expect(page.locator(".opblock")).to_have_count(sum(len(each) for each in paths.values()))

    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator(".auth-container input").fill(bearer("ann", "harbour")["Authorization"].split()[1])
    await page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    await page.keyboard.press("Escape")

    route = page.locator(".opblock", has=page.locator("[data-path='/budgets']"))
    await route.locator(".opblock-summary-control").click()
    await route.get_by_role("button", name="Try it out").click()
    await route.get_by_role("button", name="Execute").click()
    await expect(route.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    await expect(route.locator(".live-responses-table")).to_contain_text("harbour")
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {documented.service.url.split("/")[2]}


async def test_its_policy_lets_no_inline_script_run(documented: Site, open_chat: OpenChat) -> None:
    page = (await open_chat(f"{documented.service.url}/docs", key="")).page
    answer = await page.request.get(f"{documented.service.url}/docs")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert (await page.request.get(f"{documented.service.url}/docs/LICENSE")).status == 404


async def test_a_service_that_is_not_told_to_has_none(offline: Site, open_chat: OpenChat) -> None:
    page = (await open_chat(f"{offline.service.url}/spend", key="")).page
    for path in ("/docs", "/docs/swagger-ui-bundle.js", "/static/v/vendor/swagger-ui/swagger-ui-bundle.js"):
        assert (await page.request.get(offline.service.url + path)).status == 404


async def test_a_description_is_shown_as_markdown_and_its_html_runs_nothing(documented: Site, open_chat: OpenChat) -> None:
    page = (await open_chat("about:blank", key="")).page
    markdown = "Some `code`, **bold** and [a link](https://example.org/)."
    hostile = f"{markdown}\n\n<img src=x onerror=window.owned=1><iframe srcdoc='x'></iframe>"

    async def answer(route: Route) -> None:
        document = {"openapi": "3.1.0", "info": {"title": "t", "version": "1", "description": hostile}, "paths": {}}
        await route.fulfill(json=document)

    await page.route("**/openapi.json", answer)
    await page.goto(f"{documented.service.url}/docs")
    shown = page.locator(".info .description")
    await expect(shown.locator("code")).to_have_text("code")
    await expect(shown.locator("strong")).to_have_text("bold")
    await expect(shown.get_by_role("link", name="a link")).to_have_attribute("href", "https://example.org/")
    assert await shown.locator("img, iframe, script").count() == 0
    assert await page.evaluate("window.owned") is None

    link = '<a href="https://e.org/" class="x">'
    passed = await page.evaluate(
        """async (texts) => {
            const { harmless } = await import(document.querySelector("script[src*='js/swagger.js']").src);
            return texts.map(harmless);
        }""",
        [
            "<p>a &lt; b</p>",
            "<p onclick=x>",
            '<a href="javascript:alert(1)">',
            link,
            "<scr<script>ipt>",
        ],
    )
    assert passed == [
        "<p>a &lt; b</p>",
        "&lt;p onclick=x&gt;",
        '&lt;a href="javascript:alert(1)"&gt;',
        link,
        "&lt;scr&lt;script&gt;ipt&gt;",
    ]
