"""The runbooks as an alert's link opens them: pages of a real service, without credentials."""

import re
from urllib.parse import urljoin

import pytest

from tests.support.alert_links import dead_links, runbook_links
from tests.support.service import JWT_SECRET, running_service
from tools import runbook_pages


@pytest.mark.parametrize("auth", ["required", "disabled"])
async def test_each_link_of_an_alert_and_of_a_dashboard_opens_its_runbook(database_url: str, auth: str) -> None:
    async with running_service(database_url, AUTH=auth, JWT_SECRET=JWT_SECRET) as service, service.client() as client:
        links = runbook_links(f"{service.url}/runbooks")
        dead = await dead_links(client, links)

    assert {who for who, _ in links} == {"agent", "operator", "policy", "agent's dashboard", "operator's dashboard"}
    assert len({alert for _, alert in links}) == len(list(runbook_pages.SOURCE.rglob("*.md")))
    assert dead == []


async def test_each_link_of_a_runbook_leads_on(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        seen, left = set[str](), [f"{service.url}/runbooks"]
        while left:
            url = left.pop()
            if url in seen or not url.startswith(service.url):
                continue
            seen.add(url)
            answer = await client.get(url, follow_redirects=True)
            assert (url, answer.status_code) == (url, 200)
            left += [urljoin(str(answer.url), found) for found in re.findall(r'(?:href|src)="([^"#]+)', answer.text)]

    assert {f"{service.url}/runbooks/style.css", f"{service.url}/runbooks/operator/slipway-operator-down.md"} <= seen
    assert len(seen) == 3 + len(list(runbook_pages.SOURCE.rglob("*.md")))


async def test_a_page_may_do_nothing_and_is_not_sent_twice(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        page = await client.get("/runbooks/agent-cost-high.md")
        again = await client.get("/runbooks/agent-cost-high.md", headers={"If-None-Match": page.headers["ETag"]})
        posted = await client.post("/runbooks/agent-cost-high.md")

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(each.split(" ", 1) for each in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy.keys() == {"default-src", "form-action", "frame-ancestors", "base-uri", "style-src"}
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search("<script|style=|onclick|<img", page.text)
    assert (again.status_code, posted.status_code) == (304, 405)


@pytest.mark.parametrize(
    "path", ["agent-none.md", "../app.py", "%2e%2e/app.py", "..%2fapi/app.py", "operator", "operator/", "index.html"]
)
async def test_a_path_of_no_runbook_is_a_404(database_url: str, path: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        answer = await client.get(f"/runbooks/{path}")

    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
