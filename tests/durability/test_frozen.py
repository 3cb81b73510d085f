"""A process that stands still in the middle of a transaction (SIGSTOP, a paused node) keeps its peers waiting for less than a
lease of theirs lasts: directly, and behind a pooler that gives a server's connection to whoever has a transaction."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from agent_service.db.migrate import migrate
from agent_service.db.session_settings import SETTINGS
from tests.durability.fleet import until
from tests.field.roles import owned_database
from tests.support.pgbouncer import pgbouncer
from tests.support.replicas import running_replicas
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

ALICE = bearer("alice")

PATIENCE = int(SETTINGS["idle_in_transaction_session_timeout"].removesuffix("s")) + 5
"""Seconds: the server's, and some for a busy machine."""


@asynccontextmanager
async def database(admin_url: str, *, pooled: bool) -> AsyncIterator[tuple[str, str]]:
    """Its address for the service, and its own."""
    with owned_database(admin_url) as url:
        migrate(url)
        if not pooled:
            yield url, url
            return
        async with pgbouncer(url, "transaction", default_pool_size="20") as address:
            yield address, url


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pooled", [False, True], ids=["directly", "behind a pooler"])
async def test_a_caller_goes_on_at_a_peer_when_a_process_freezes_in_the_middle_of_a_start(
    admin_url: str, tmp_path: Path, pooled: bool
) -> None:
    async with database(admin_url, pooled=pooled) as (address, url):
        env = {"DATABASE_URL": address, "AUTH": "required", "JWT_SECRET": JWT_SECRET}
        async with running_replicas(2, env, tmp_path) as (frozen, peer), httpx.AsyncClient(timeout=PATIENCE) as client:

            async def ask(base: str, session: str, **headers: str) -> httpx.Response:
                body = {"question": "What is a lease?", "session_id": session}
                return await client.post(f"{base}/chat", json=body, headers={**ALICE, **headers})

            assert (await ask(frozen.url, "s")).json()["outcome"] == "completed"
            with psycopg.connect(url) as conn, conn.transaction():
                conn.execute("SELECT 1 FROM slipway.sessions FOR UPDATE")
                # It counts the start, which locks the row of the caller, and waits for that of the session.
                stuck = asyncio.create_task(ask(frozen.url, "s", **{"Idempotency-Key": "k"}))
                await until(lambda: _waits(url))
                frozen.send(signal.SIGSTOP)
            answer = await ask(peer.url, "other")
            with psycopg.connect(url) as conn:
                attempts = conn.execute("SELECT DISTINCT attempt FROM slipway.runs").fetchall()
            frozen.send(signal.SIGCONT)
            late = (await stuck).status_code

    assert (answer.status_code, answer.json()["outcome"]) == (200, "completed")
    assert attempts == [(1,)], "the peer has lost no run meanwhile"
    assert late in {200, 503}


def _waits(url: str) -> bool:
    with psycopg.connect(url) as conn:
        found = conn.execute("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return found.fetchone() is not None
