from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from agent_service.db import migrate as migrations
from agent_service.db.migrate import migrate, shipped, wait_for_database


def test_migrating_an_empty_database_applies_every_migration_once(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == len(shipped())
    assert migrate(empty_database_url) == 0


def test_two_migrations_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [empty_database_url] * 2))

    assert sorted(applied) == [0, len(shipped())]
    with psycopg.connect(empty_database_url) as conn:
        rows = conn.execute("SELECT version FROM slipway.schema_migrations ORDER BY 1").fetchall()
    assert [r[0] for r in rows] == [m.version for m in shipped()]


def test_a_database_that_does_not_answer_in_time_is_told_once_and_raised() -> None:
    told: list[str] = []

    with pytest.raises(psycopg.OperationalError, match="refused"):
        wait_for_database("postgresql://127.0.0.1:1/none", 0.6, told.append)

    assert len(told) == 1


def test_a_database_that_answers_is_not_waited_for(empty_database_url: str) -> None:
    told: list[str] = []

    wait_for_database(empty_database_url, 0, told.append)

    assert told == []


def indexes_of(url: str) -> dict[int, str]:
    """By the migration that built it; without those that a later one has put in the place of others, under their names."""
    return {each.version: each.index for each in shipped() if each.index and is_valid(url, each.index) is not None}


def forget_last_index(url: str) -> str:
    """Brings a migrated database back to before its newest index, whose name it returns."""
    version, index = max(indexes_of(url).items())
    with psycopg.connect(url) as conn:
        conn.execute("DELETE FROM slipway.schema_migrations WHERE version = %s", (version,))
        conn.execute(f"DROP INDEX slipway.{index}".encode())
    return index


def is_valid(url: str, index: str) -> bool | None:
    """None: there is no such index."""
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (f"slipway.{index}",)).fetchone()
    return row[0] if row else None


@contextmanager
def waiting_migration(url: str) -> Iterator[tuple[Future[int], psycopg.Connection[Any], int]]:
    """A migration that builds an index, and waits for the open transaction of a writer; with the process that serves it."""
    write = "INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES (%s, 'acme', 'ann', '')"
    with psycopg.connect(url) as writer, psycopg.connect(url, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
        writer.execute(write, ("first",))
        writer.execute("LOCK TABLE slipway.runs IN ROW EXCLUSIVE MODE")
        building = pool.submit(migrate, url)
        found = None
        while found is None and not building.done():
            found = other.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                " AND query LIKE '%CREATE INDEX%'"
            ).fetchone()
        assert found, building.exception()
        yield building, other, found[0]
        writer.rollback()


def test_an_index_is_built_while_others_write(empty_database_url: str) -> None:
    migrate(empty_database_url)
    index = forget_last_index(empty_database_url)

    with waiting_migration(empty_database_url) as (building, other, _):
        other.execute("SET lock_timeout = '2s'")
        other.execute("UPDATE slipway.runs SET undo = false")  # refused behind a plain CREATE INDEX

    assert building.result() == 1
    assert is_valid(empty_database_url, index)


def test_an_index_whose_building_was_cut_off_is_built_anew(empty_database_url: str) -> None:
    migrate(empty_database_url)
    index = forget_last_index(empty_database_url)

    with waiting_migration(empty_database_url) as (building, other, pid):
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(psycopg.OperationalError):
            building.result()
    assert is_valid(empty_database_url, index) is False

    assert migrate(empty_database_url) == 1
    assert is_valid(empty_database_url, index)


def test_an_index_of_a_database_that_has_it_already_stays(empty_database_url: str) -> None:
    """As in databases of release candidates, whose migrations made the indexes together with the columns."""
    migrate(empty_database_url)
    indexes = indexes_of(empty_database_url)
    found = "SELECT array_agg(oid ORDER BY oid) FROM pg_class WHERE relname = ANY(%s)"
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        before = conn.execute(found, (list(indexes.values()),)).fetchone()
        conn.execute("DELETE FROM slipway.schema_migrations WHERE version = ANY(%s)", (list(indexes),))

        assert migrate(empty_database_url) == len(indexes)
        assert conn.execute(found, (list(indexes.values()),)).fetchone() == before


def test_a_database_with_runs_gets_the_partial_indexes_under_the_names_that_older_code_knows(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(migrations, "shipped", lambda: [each for each in shipped() if each.version < 38])
        migrate(empty_database_url)
    run = (
        "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, resumes, idempotency_key)"
        " VALUES (gen_random_uuid(), 's', 't', 'u', 'q', '{}', 'finished', 'completed', %s, %s) RETURNING id"
    )
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES ('s', 't', 'u', '')")
        first = conn.execute(run, (None, None)).fetchone()
        assert first
        conn.execute(run, (first[0], "key"))

        migrate(empty_database_url)

        conn.execute(run, (None, None))
        for values, index in (((first[0], None), "runs_resumes_key"), ((None, "key"), "runs_idempotency")):
            with pytest.raises(psycopg.errors.UniqueViolation) as refused:
                conn.execute(run, values)
            assert refused.value.diag.constraint_name == index
        conn.execute("DELETE FROM slipway.runs WHERE id = %s", first)
        left = conn.execute("SELECT count(*) FROM slipway.runs WHERE resumes IS NOT NULL").fetchone()
        assert left == (0,)  # what resumes a run goes with it
