"""A database with two users' runs, ledger and feedback."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import psycopg
import pytest

from agent_service.child_processes import Workers
from agent_service.data.data_reader import DataReader
from agent_service.db.pool import Pool, make_pool
from agent_service.principal import Principal
from tests.support.postgres import fresh_database

ANN = Principal("acme", "ann")
BOB = Principal("acme", "bob")
OTHER_ANN = Principal("globex", "ann")


def add_run(conn: psycopg.Connection, owner: Principal, *, calls: list[tuple[str, int, str | None]], score: int = 1) -> None:
    """A finished run; `calls` are (model, input tokens, USD)."""
    run, session = uuid4(), f"s-{owner.tenant}-{owner.user}"
    conn.execute(
        "INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES (%s, %s, %s, 'secret title') ON CONFLICT DO NOTHING",
        (session, owner.tenant, owner.user),
    )
    conn.execute(
        "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, route, started_at,"
        " finished_at)"
        " VALUES (%s, %s, %s, %s, 'secret question', '{}', 'finished', 'completed', 'DATA', now() - interval '2 s', now())",
        (run, session, owner.tenant, owner.user),
    )
    conn.execute("INSERT INTO slipway.feedback (run_id, score, comment) VALUES (%s, %s, 'fine')", (run, score))
    for number, (model, tokens, usd) in enumerate(calls):
        conn.execute(
            "INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model, input_tokens,"
            " cached_tokens, output_tokens, cost_usd, estimated)"
            " VALUES (%s, 1, %s, %s, %s, %s, 'agent', %s, %s, 0, 5, %s, false)",
            (run, number, session, owner.tenant, owner.user, model, tokens, usd),
        )


@pytest.fixture(scope="package")
def seeded_url(admin_url: str) -> Iterator[str]:
    """One database for all tests here: queries only read."""
    with fresh_database(admin_url) as url:
        with psycopg.connect(url) as conn:
            add_run(conn, ANN, calls=[("gpt-x", 100, "0.25"), ("mini", 10, "0.01"), ("gpt-x", 50, "0.125"), ("free", 7, None)])
            add_run(conn, BOB, calls=[("gpt-x", 9_000, "99")], score=0)
            add_run(conn, OTHER_ANN, calls=[("gpt-x", 8_000, "88")], score=0)
        yield url


@pytest.fixture
async def pool(seeded_url: str) -> AsyncIterator[Pool]:
    pool = make_pool(seeded_url, size=2, timeout=5)
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
def reader(pool: Pool, workers: Workers) -> DataReader:
    return DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=100)
