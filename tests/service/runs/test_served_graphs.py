"""A run whose graph nobody serves: it waits for who does, and ends when there has been none for long."""

import asyncio
import time
from uuid import uuid4

import pytest

from agent_service.db.pool import Pool
from agent_service.runs import served_graphs
from agent_service.runs.served_graphs import ServedGraphs
from tests.service.runs.conftest import Database
from tests.support.service import running_service


def lose(database: Database, graph: str) -> str:
    """A queued run of a graph, and its id."""
    run_id = str(uuid4())
    database.rows(
        "INSERT INTO slipway.sessions (id, tenant, user_id, title, graph) VALUES (%s, 'default', 'local', 't', %s)", run_id, graph
    )
    database.rows(
        "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, graph) SELECT %s, id, tenant, user_id, 'q',"
        " '{\"messages\": []}', graph FROM slipway.sessions WHERE id = %s",
        run_id,
        run_id,
    )
    return run_id


def age(database: Database, graph: str, seconds: float) -> None:
    database.rows("UPDATE slipway.served_graphs SET seen_at = now() - %s * interval '1 second' WHERE name = %s", seconds, graph)


async def test_a_graph_is_gone_that_nobody_has_served_for_long(pool: Pool, database: Database) -> None:
    here, elsewhere = ServedGraphs(pool, ["a"]), ServedGraphs(pool, ["b"])
    lose(database, "b")
    lose(database, "c")
    await elsewhere.look()
    here._since -= served_graphs.GONE_SECONDS

    await here.look()
    assert here.claimable == ["a", "c"], "b has just been served"

    age(database, "b", served_graphs.GONE_SECONDS + 1)
    await here.look()
    assert sorted(here.claimable) == ["a", "b", "c"]

    await elsewhere.look()
    await here.look()
    assert here.claimable == ["a", "c"], "b is served again"


async def test_a_process_that_has_just_started_gives_no_graph_up(pool: Pool, database: Database) -> None:
    lose(database, "b")
    here = ServedGraphs(pool, ["a"])

    await here.look()

    assert here.claimable == ["a"]


async def test_a_run_of_a_graph_that_is_gone_ends_and_says_so(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_graphs, "GONE_SECONDS", 0.5)
    monkeypatch.setattr(served_graphs, "SAY_SECONDS", 0.1)
    run_id = lose(database, "lost")
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:saying") as service, service.client() as client:
        began = time.monotonic()
        async with asyncio.timeout(20):
            stream = await client.get(f"/runs/{run_id}/stream")
        run = (await client.get(f"/runs/{run_id}")).json()

    assert time.monotonic() - began < 15
    assert (run["outcome"], run["graph"]) == ("failed", "lost")
    assert run["error"] == {"code": "graph_not_served", "message": "nobody serves the graph lost any more", "retryable": False}
    assert "graph_not_served" in stream.text
