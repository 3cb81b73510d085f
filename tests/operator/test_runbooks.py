"""The runbooks on the operator's own port, beside its metrics."""

import httpx
import pytest

from agent_operator.metrics import Metrics
from agent_operator.startup import _served
from tests.support.alert_links import dead_links, runbook_links
from tests.support.ports import free_port


async def test_each_link_of_an_alert_opens_its_runbook_and_metrics_are_served_on() -> None:
    port = free_port()
    async with _served(Metrics("1"), "127.0.0.1", port), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        dead = await dead_links(client, runbook_links(f"http://127.0.0.1:{port}/runbooks"))
        listed = await client.get("/runbooks/")
        styled = await client.get("/runbooks/style.css")
        bare = await client.get("/runbooks")
        metrics = await client.get("/metrics")

    assert dead == []
    assert (listed.status_code, styled.status_code) == (200, 200)
    assert (bare.status_code, bare.headers["Location"]) == (308, "/runbooks/")
    assert listed.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in listed.headers["Content-Security-Policy"]
    assert "slipway_operator_build_info" in metrics.text


@pytest.mark.parametrize("path", ["/runbooks/agent-none.md", "/runbooks/%2e%2e/__init__.py"])
async def test_a_path_of_no_runbook_is_a_404(path: str) -> None:
    port = free_port()
    async with _served(Metrics("1"), "127.0.0.1", port), httpx.AsyncClient() as client:
        url = httpx.URL(f"http://127.0.0.1:{port}").copy_with(raw_path=path.encode())
        answer = await client.get(url)

    assert answer.status_code == 404
