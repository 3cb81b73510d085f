from concurrent.futures import ThreadPoolExecutor

import psycopg

from agent_service.db.migrate import migrate, shipped


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
