"""Migration 0014 beside processes of the version before: they know one graph, and neither take nor start a run of another."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

OLD, NEW = "pod-0123456789ab@1.0", "pod-0123456789ab+@1.0"


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def begin(db: psycopg.Connection[DictRow], number: int, holder: str, **more: Any) -> DictRow | None:
    """As the writer of a process does, by slipway.begin_run; one of the version before says no graph."""
    asked = {
        "id": f"00000000-0000-0000-0000-{number:012}", "session_id": "s", "tenant": "t", "user_id": "u", "question": "q",
        "title": "q", "input": {}, "listed": True, "fresh": "f", "here": True, "lease": 60.0, "holder": holder, **more,
    }  # fmt: skip
    return db.execute("SELECT * FROM slipway.begin_run(%s)", (Jsonb(asked),)).fetchone()


def insert(db: psycopg.Connection[DictRow], number: int, holder: str) -> None:
    """As a process of the version before does on its other way."""
    db.execute(
        "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, holder, status)"
        " VALUES (%s, 's', 't', 'u', 'q', '{}', %s, 'queued')",
        (f"00000000-0000-0000-0000-{number:012}", holder),
    )


def claim(db: psycopg.Connection[DictRow], holder: str) -> int:
    """How many runs it gets; as CLAIM of both versions ends."""
    return db.execute(
        "UPDATE slipway.runs SET status = 'running', attempt = attempt + 1, holder = %s, lease_expires_at = now()"
        " WHERE status <> 'finished' RETURNING id",
        (holder,),
    ).rowcount


def finish(db: psycopg.Connection[DictRow]) -> None:
    db.execute("UPDATE slipway.runs SET status = 'finished', outcome = 'completed', lease_expires_at = NULL")


def test_rows_from_before_and_of_the_version_before_are_of_the_graph_agent(db: psycopg.Connection[DictRow]) -> None:
    assert begin(db, 1, OLD)
    finish(db)
    assert begin(db, 2, OLD)
    finish(db)
    insert(db, 3, OLD)

    assert claim(db, OLD) == 1
    rows = db.execute(
        "SELECT r.graph, s.graph AS of FROM slipway.runs r JOIN slipway.sessions s ON s.id = r.session_id"
    ).fetchall()
    assert rows == [{"graph": "agent", "of": "agent"}] * 3


def test_the_version_before_takes_over_no_run_of_another_graph(db: psycopg.Connection[DictRow]) -> None:
    assert begin(db, 1, NEW, graph="other")

    assert claim(db, OLD) == 0
    assert db.execute("SELECT attempt, holder FROM slipway.runs").fetchone() == {"attempt": 1, "holder": NEW}
    assert claim(db, NEW) == 1


def test_the_version_before_starts_nothing_in_a_session_of_another_graph(db: psycopg.Connection[DictRow]) -> None:
    assert begin(db, 1, NEW, graph="other")
    finish(db)

    assert begin(db, 2, OLD) is None
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        insert(db, 3, OLD)
    assert refused.value.diag.constraint_name == "runs_one_running_per_session", "it tells its caller that the session is busy"
    assert begin(db, 4, NEW, graph="other")


def test_a_session_that_has_had_no_run_takes_the_graph_of_its_first_one(db: psycopg.Connection[DictRow]) -> None:
    db.execute("INSERT INTO slipway.sessions (id, tenant, user_id, title, graph) VALUES ('s', 't', 'u', '', NULL)")

    assert begin(db, 1, NEW, graph="other")
    finish(db)

    assert db.execute("SELECT graph FROM slipway.sessions").fetchone() == {"graph": "other"}
    assert begin(db, 2, NEW, graph="agent") is None
