from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

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
