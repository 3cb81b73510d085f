"""How the chat page's files are served."""

import httpx

from agent_service.api.page import site
from tests.support.service import running_service


async def test_files_have_types_policy_and_validators_and_nothing_else_of_the_disk_is_served(database_url: str) -> None:
    version = site().version
    async with running_service(database_url) as service, service.client() as client:
        page = await client.get("/")
        policy = page.headers["Content-Security-Policy"]
        assert page.headers["Content-Type"].startswith("text/html")
        assert "unsafe" not in policy
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "trusted-types 'none'"} <= set(policy.split("; "))
        assert (await client.get("/", headers={"If-None-Match": page.headers["ETag"]})).status_code == 304

        for name, asset in site().assets.items():
            got = await client.get(f"/static/{version}/{name}")
            assert (got.status_code, got.content, got.headers["Content-Type"]) == (200, asset.body, asset.media_type)
            assert "immutable" in got.headers["Cache-Control"]
            assert got.headers["X-Content-Type-Options"] == "nosniff"
            head = await client.head(f"/static/{version}/{name}")
            assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", got.headers["ETag"])
            again = await client.get(f"/static/{version}/{name}", headers={"If-None-Match": f'"x", W/{got.headers["ETag"]}'})
            assert (again.status_code, again.content) == (304, b"")

        other = await client.get("/static/of-another-version/js/main.js")
        assert (other.status_code, other.headers["Cache-Control"]) == (200, "no-cache")
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            refused = await client.request(method, f"/static/{version}/js/main.js")
            assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")


PATHS = (
    *("../page.py", "../../api/page.py", "%2e%2e/api/page.py", "..%2f..%2fapi/page.py", "..%5c..%5capi%5cpage.py"),
    *("js/..%2f..%2findex.html", "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "js/main.js%00", "js/main.js/", "js/"),
    *("js", "", ".", "index.html", "JS/main.js", "vendor/manifest.json", "vendor/README.md", "vendor/markdown-it/LICENSE"),
    *("js/main.js%20", "js//main.js", "file:///etc/passwd"),
)


async def test_a_path_that_names_no_file_of_the_page_is_a_404(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        for path in PATHS:
            raw = f"/static/{site().version}/{path}".encode()
            answer = await client.get(httpx.URL(service.url).copy_with(raw_path=raw))
            assert (path, answer.status_code) == (path, 404)
            assert answer.headers["Content-Type"] == "application/problem+json"
