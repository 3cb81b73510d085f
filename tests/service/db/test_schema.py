"""`serve` and a schema that is not its own."""

import os
import subprocess
import sys

import psycopg

from agent_service.db.migrate import shipped

CURRENT = shipped()[-1].version


def serve(database_url: str) -> tuple[int, str]:
    """Exit code, and what it said to whoever started it."""
    env = {**os.environ, "DATABASE_URL": database_url, "AUTH": "disabled", "PORT": "0", "OPS_PORT": "0", "LOG_LEVEL": "error"}
    command = [sys.executable, "-c", "from agent_service.cli import main; main()", "serve"]
    done = subprocess.run(command, env=env, timeout=30, check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_serve_refuses_a_database_without_a_schema(empty_database_url: str) -> None:
    assert serve(empty_database_url) == (
        1,
        f"slipway: database schema is 0, this build needs {CURRENT}: run `slipway migrate`\n",
    )


def test_serve_refuses_an_older_schema(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute("DELETE FROM slipway.schema_migrations WHERE version = %s", (CURRENT,))

    code, said = serve(database_url)

    assert (code, said.count("\n")) == (1, 1)
    assert said.endswith(f"this build needs {CURRENT}: run `slipway migrate`\n")


def test_serve_refuses_a_newer_schema(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute("INSERT INTO slipway.schema_migrations (version, name) VALUES (%s, 'later')", (CURRENT + 1,))

    assert serve(database_url) == (
        1,
        f"slipway: database schema is {CURRENT + 1}, this build needs {CURRENT}: this build is older than the database\n",
    )
