"""slipway_clients.prometheus against an HTTP server that answers as Prometheus does."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from slipway_clients.prometheus import Alert, Prometheus, PrometheusError, Sample

RULE = {
    "name": "Slow",
    "type": "alerting",
    "state": "firing",
    "health": "ok",
    "labels": {"severity": "critical"},
    "annotations": {"a": "b"},
}
BROKEN = {"name": "Bad", "type": "alerting", "state": "unknown", "health": "err", "lastError": "many-to-many matching"}
DATA: dict[str, Any] = {
    "/api/v1/query": {"resultType": "vector", "result": [{"metric": {"pod": "a"}, "value": [1, "2.5"]}]},
    "/api/v1/rules": {"groups": [{"name": "mine", "rules": [RULE, BROKEN]}, {"name": "other", "rules": [RULE]}]},
    "/api/v1/alerts": {"alerts": [{"labels": {"alertname": "Slow", "job": "x"}, "state": "firing"}]},
    "/api/v1/label/__name__/values": ["agent_a_total"],
}


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": DATA[request.url.path]})


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        yield Prometheus(http, "http://prometheus/")


async def test_a_query_gives_samples(prometheus: Prometheus) -> None:
    assert await prometheus.query("up") == [Sample({"pod": "a"}, 2.5)]


async def test_rules_are_those_of_the_wanted_groups_whatever_the_server_sends(prometheus: Prometheus) -> None:
    rules = await prometheus.rules(["mine"])

    assert [(rule.group, rule.name, rule.health, rule.state) for rule in rules] == [
        ("mine", "Slow", "ok", "firing"),
        ("mine", "Bad", "err", "unknown"),
    ]
    assert (rules[0].annotations, rules[1].last_error) == ({"a": "b"}, "many-to-many matching")
    assert len(await prometheus.rules()) == 3


async def test_alerts_have_their_labels(prometheus: Prometheus) -> None:
    assert await prometheus.alerts() == [Alert("Slow", "firing", {"alertname": "Slow", "job": "x"})]


async def test_it_knows_which_metrics_were_seen(prometheus: Prometheus) -> None:
    assert await prometheus.seen({"agent_a_total", "agent_b_total"}, 'job="x"', now=1e9) == {"agent_a_total"}


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (httpx.Response(400, json={"status": "error", "error": "parse error"}), "parse error"),
        (httpx.Response(503, json={"status": "success"}), "no data"),
        (httpx.Response(502, text="<html>"), "JSONDecodeError"),
        (httpx.Response(200, json=[]), "HTTP status 200"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_that_names_the_call(response: httpx.Response, words: str) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: response)) as http:
        with pytest.raises(PrometheusError, match=f"http://prometheus/api/v1/query: .*{words}"):
            await Prometheus(http, "http://prometheus").query("up")


async def test_no_connection_is_an_error_of_ours() -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(PrometheusError, match="ConnectError"):
            await Prometheus(http, "http://127.0.0.1:1").query("up")
