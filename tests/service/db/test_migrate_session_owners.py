"""Sessions of before (tenant, user, id) was their key: what the migration keeps, and the version before beside this one."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from agent_service.child_processes import Workers
from agent_service.data.data_reader import DataReader
from agent_service.db import langgraph_tables
from agent_service.db.migrate import _apply, migrate, shipped
from agent_service.principal import Principal
from agent_service.runs.session_store import SessionStore
from tests.support.service import JWT_SECRET, running_service
from tests.support.tokens import bearer

OWNERS = "session_owners.sql"

ANN, BOB = bearer("ann", "acme"), bearer("bob", "globex")

REMEMBERS = {"AUTH": "required", "JWT_SECRET": JWT_SECRET, "AGENT_GRAPH": "tests.support.graphs:remembering"}

OLD_UPSERT = """
INSERT INTO slipway.sessions AS s (id, tenant, user_id, title, listed) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET last_active_at = now()
WHERE s.tenant = EXCLUDED.tenant AND s.user_id = EXCLUDED.user_id
RETURNING id
"""
"""How the version before began or found a session; its other statements name `id`, `tenant` and `user_id` alone."""

OLD_INSERT = """
INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, answer, finished_at)
VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, 'finished', 'completed', %s, now()) RETURNING id
"""


def before_owners(conn: psycopg.Connection[DictRow]) -> None:
    """The schema of the version before, as its `slipway migrate` leaves it."""
    conn.execute("CREATE SCHEMA slipway")
    conn.execute(
        "CREATE TABLE slipway.schema_migrations (version integer PRIMARY KEY, name text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now(), needs_code integer NOT NULL DEFAULT 0)"
    )
    langgraph_tables.set_up(conn, concurrently=True)
    owners = next(m for m in shipped() if m.name.endswith(OWNERS))
    for migration in shipped():
        if migration.version < owners.version:
            _apply(conn, migration)


def old_turn(conn: psycopg.Connection[DictRow], session: str, tenant: str, user: str, question: str) -> Any:
    """A turn by the version before; None where it answers 404."""
    if conn.execute(OLD_UPSERT, (session, tenant, user, question, True)).fetchone() is None:
        return None
    values = (session, tenant, user, question, Jsonb({"messages": []}), f"to {question}")
    return (conn.execute(OLD_INSERT, values).fetchone() or {})["id"]


@pytest.fixture
def old(empty_database_url: str) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(empty_database_url, autocommit=True, row_factory=dict_row) as conn:
        before_owners(conn)
        yield conn


async def test_sessions_of_before_are_read_continued_and_erased_by_their_owners(
    old: psycopg.Connection[DictRow], empty_database_url: str
) -> None:
    for session, tenant, user in (("trip", "acme", "ann"), ("tax", "globex", "bob"), ("v1-0a", "acme", "ann")):
        old_turn(old, session, tenant, user, f"{user} asks")
    assert migrate(empty_database_url) > 0

    async with running_service(empty_database_url, **REMEMBERS) as service, service.client() as client:
        listed = (await client.get("/sessions", headers=ANN)).json()["sessions"]
        assert {row["session_id"] for row in listed} == {"trip", "v1-0a"}
        messages = (await client.get("/sessions/tax/messages", headers=BOB)).json()["messages"]
        assert [message["content"] for message in messages] == ["bob asks", "to bob asks"]
        more = await client.post("/chat", json={"question": "more", "session_id": "tax"}, headers=BOB)
        assert (more.status_code, more.json()["session_id"]) == (200, "tax")
        assert len((await client.get("/sessions/tax/messages", headers=BOB)).json()["messages"]) == 4
        for headers, session, status in ((BOB, "trip", 404), (ANN, "trip", 204), (ANN, "v1-0a", 204), (BOB, "tax", 204)):
            assert (await client.delete(f"/sessions/{session}", headers=headers)).status_code == status
    assert old.execute("SELECT (SELECT count(*) FROM slipway.sessions) + (SELECT count(*) FROM checkpoints) AS n").fetchone() == {
        "n": 0
    }


async def test_the_version_before_goes_on_beside_this_one(old: psycopg.Connection[DictRow], empty_database_url: str) -> None:
    migrate(empty_database_url)
    async with running_service(empty_database_url, **REMEMBERS) as service, service.client() as client:
        sessions = SessionStore(service.resources.pool)
        ann = Principal("acme", "ann")
        assert old_turn(old, "begun-by-old", "acme", "ann", "one")
        new = await client.post("/chat", json={"question": "two", "session_id": "begun-by-old"}, headers=ANN)
        assert new.status_code == 200
        await client.post("/chat", json={"question": "one", "session_id": "begun-by-new"}, headers=ANN)
        assert old_turn(old, "begun-by-new", "acme", "ann", "two")
        for session in ("begun-by-old", "begun-by-new"):
            questions = [m["content"] for m in (await sessions.history(ann, session))["messages"] if m["role"] == "user"]
            assert questions == ["one", "two"]

        # An id that two callers share: the version before answers the second one as ever, and touches nothing of the first.
        await client.post("/chat", json={"question": "mine", "session_id": "begun-by-old"}, headers=BOB)
        assert old_turn(old, "begun-by-old", "globex", "bob", "again") is None
        assert len((await sessions.history(Principal("globex", "bob"), "begun-by-old"))["messages"]) == 2


async def test_sessions_of_one_id_never_share_a_state(database_url: str, workers: Workers) -> None:
    async with running_service(database_url, **REMEMBERS) as service, service.client() as client:
        for headers, said in ((ANN, "apples"), (BOB, "bananas"), (bearer("ann", "globex"), "cherries"), (ANN, "damsons")):
            body = {"question": said, "session_id": "one-id"}
            answer = (await client.post("/chat", json=body, headers=headers)).json()
            expected = "apples, damsons" if said == "damsons" else said
            assert (answer["answer"], answer["session_id"]) == (f"You said {expected}.", "one-id")
        assert (await client.delete("/sessions/one-id", headers=BOB)).status_code == 204
        again = await client.post("/chat", json={"question": "eggs", "session_id": "one-id"}, headers=ANN)
        assert again.json()["answer"] == "You said apples, damsons, eggs."
        anew = await client.post("/chat", json={"question": "figs", "session_id": "one-id"}, headers=BOB)
        assert anew.json()["answer"] == "You said figs."
        reader = DataReader(service.resources.pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
        for tenant, user in (("acme", "ann"), ("globex", "bob")):
            asked = reader.query("SELECT DISTINCT session_id FROM runs", principal=Principal(tenant, user))
            assert (await asked).rows == (("one-id",),)
    with psycopg.connect(database_url, row_factory=dict_row) as conn:
        sessions = conn.execute("SELECT id, coalesce(external_id, id) AS name FROM slipway.sessions").fetchall()
        shown = conn.execute("SELECT DISTINCT session_id FROM slipway.ledger").fetchall()
    assert len({row["id"] for row in sessions}) == 3
    assert {row["name"] for row in sessions} == {"one-id"}
    assert [row["session_id"] for row in shown] in ([], ["one-id"])


async def test_begun_at_once_by_many_callers_one_id_is_a_session_of_each(database_url: str) -> None:
    async with running_service(database_url, **REMEMBERS) as service, service.client() as client:
        callers = [bearer(f"user-{n}", f"tenant-{n % 3}") for n in range(12)]
        body = {"question": "hello", "session_id": "race"}
        answers = await asyncio.gather(*(client.post("/chat", json=body, headers=headers) for headers in callers))
        assert [answer.status_code for answer in answers] == [200] * 12
        for headers in callers:
            assert len((await client.get("/sessions/race/messages", headers=headers)).json()["messages"]) == 2
