"""Whoever asked is told of a run's end, whatever other hosts do."""

import asyncio
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from agent_service.runs import webhooks
from tests.service.runs.conftest import until
from tests.support.http_server import http_server
from tests.support.service import running_service


async def _runs(client: LangGraphClient, count: int, url: str) -> None:
    for number in range(count):
        asked: Any = {"messages": [{"role": "user", "content": "hi"}]}
        await client.runs.create(None, "agent", input=asked, webhook=f"{url}/{number}")


async def test_a_host_that_does_not_answer_keeps_no_other_s_waiting(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told, going, most = 0, list[str](), 0, 0
    over = asyncio.Event()

    async def dead(_: web.Request) -> web.Response:
        nonlocal asked, going, most
        asked, going = asked + 1, going + 1
        most = max(most, going)
        try:
            await over.wait()
        finally:
            going -= 1
        return web.Response()

    async def live(request: web.Request) -> web.Response:
        told.append(request.path)
        return web.Response()

    monkeypatch.setattr(webhooks, "POLL_SECONDS", 0.1)
    async with (
        http_server(dead) as dead_url,
        http_server(live) as live_url,
        running_service(
            database_url, AGENT_GRAPH="tests.support.graphs:gated", MODEL="offline", WEBHOOK_HOSTS="127.0.0.1,localhost"
        ) as service,
        get_client(url=service.url) as client,
    ):
        await _runs(client, 15, dead_url.replace("127.0.0.1", "localhost"))
        await until(lambda: going >= webhooks.OF_HOST)
        await _runs(client, 12, live_url)
        await until(lambda: len(told) == 12)
        waiting = going
        over.set()
        await until(lambda: asked == 15)  # each place that is free is filled again

    assert waiting == most == webhooks.OF_HOST
    assert len({*told}) == 12


async def test_what_leads_to_a_host_that_is_not_allowed_any_more_is_given_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(webhooks, "FIRST_PAUSE_SECONDS", 0.0)
    insert = """
        INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, webhook_due)
        VALUES (%s, 's', 't', 'u', '', %s, 'finished', 'completed', now())"""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES ('s', 't', 'u', '')")
        for url in ("https://gone.example/", "https://127.0.0.2/"):
            conn.execute(insert, (uuid4(), f'{{"wire": {{"webhook": "{url}"}}}}'))
        async with running_service(
            database_url, AGENT_GRAPH="tests.support.graphs:gated", MODEL="offline", WEBHOOK_HOSTS="127.0.0.1"
        ):
            await until(lambda: conn.execute("SELECT 1 FROM slipway.runs WHERE webhook_due IS NOT NULL").fetchone() is None)
        tries = conn.execute("SELECT webhook_tries FROM slipway.runs").fetchall()

    assert tries == [(webhooks.TRIES,)] * 2


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example.com/a?b=c", "hooks.example.com"),
        ("HTTP://Hooks.Example.com:8080", "hooks.example.com"),
        ("http://h?x=/y", "h"),
        ("http://h#f", "h"),
        ("http://[::1]:80/", "::1"),
    ],
)
def test_the_database_reads_the_host_of_a_url_as_the_service_does(database_url: str, url: str, host: str) -> None:
    assert webhooks.allowed(url, (host,)) == url
    with psycopg.connect(database_url) as conn:
        row = conn.execute(
            "SELECT slipway.webhook_host(jsonb_build_object('wire', jsonb_build_object('webhook', %s::text)))", (url,)
        )
        assert row.fetchone() == (host,)
