"""`serve` and a schema that is not its own."""

from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from agent_service.db.migrate import Migration, _apply, check_schema, migrate, shipped
from tests.support.warm import slipway

pytestmark = pytest.mark.xdist_group("warm")

CURRENT = shipped()[-1].version


def serve(database_url: str, folder: Path) -> tuple[int, str]:
    """Exit code, and what it said to whoever started it."""
    env = {"DATABASE_URL": database_url, "AUTH": "disabled", "PORT": "0", "OPS_PORT": "0", "LOG_LEVEL": "error"}
    return slipway("serve", log=folder / "log", **env)


def test_serve_refuses_a_database_without_a_schema(empty_database_url: str, tmp_path: Path) -> None:
    assert serve(empty_database_url, tmp_path) == (
        1,
        f"slipway: database schema is 0, this build needs {CURRENT}: run `slipway migrate`\n",
    )


def test_serve_refuses_an_older_schema(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute("DELETE FROM slipway.schema_migrations WHERE version = %s", (CURRENT,))

    code, said = serve(database_url, tmp_path)

    assert (code, said.count("\n")) == (1, 1)
    assert said.endswith(f"this build needs {CURRENT}: run `slipway migrate`\n")


def add_migration(database_url: str, *, needs_code: int) -> None:
    """What `slipway migrate` of the next version leaves behind."""
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "INSERT INTO slipway.schema_migrations (version, name, needs_code) VALUES (%s, 'later', %s)",
            (CURRENT + 1, needs_code),
        )


def test_serve_refuses_a_newer_schema_that_took_something_away(database_url: str, tmp_path: Path) -> None:
    add_migration(database_url, needs_code=CURRENT + 1)

    code, said = serve(database_url, tmp_path)

    assert (code, said.count("\n")) == (1, 1)
    assert f"which needs code of schema {CURRENT + 1} or later: this build is of schema {CURRENT}" in said


async def test_code_runs_on_a_newer_schema_that_only_added_something(database_url: str) -> None:
    add_migration(database_url, needs_code=CURRENT)

    async with await psycopg.AsyncConnection.connect(database_url, row_factory=dict_row) as conn:
        await check_schema(conn)


def test_a_migration_says_which_code_can_live_with_it() -> None:
    assert Migration(9, "drop", "-- Why.\n-- needs code of schema 7\nALTER …").needs_code == 7
    assert Migration(9, "add", "-- Why.\nALTER …").needs_code == 0


def test_a_migration_does_not_queue_the_service_behind_a_busy_table(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.db.migrate.TABLE_LOCK_TIMEOUT", "50ms")
    migrate(empty_database_url)
    with (
        psycopg.connect(empty_database_url) as busy,
        psycopg.connect(empty_database_url, autocommit=True, row_factory=dict_row) as conn,
    ):
        busy.execute("SELECT count(*) FROM slipway.runs")  # its transaction stays open
        with pytest.raises(psycopg.errors.LockNotAvailable):
            _apply(conn, Migration(99, "later", "ALTER TABLE slipway.runs ADD COLUMN later integer"))

        assert conn.execute("SELECT count(*) AS n FROM slipway.schema_migrations WHERE version = 99").fetchone() == {"n": 0}
