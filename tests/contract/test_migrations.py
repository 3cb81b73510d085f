"""No migration keeps the service's writers waiting for as long as a table is long: a rule for every file of `migrations/`."""

import re

import pytest

from agent_service.db.migrate import Migration, shipped

BEFORE_THE_RULE = {"0007_session_owners.sql", "0020_assistants.sql"}
"""The first needs its index with its column, as `ON CONFLICT` relies on it; the second looks at crons, of which there are few."""

BODY = re.compile(r"\$\$.*?\$\$", re.DOTALL)
COMMENT = re.compile(r"--[^\n]*")
CREATED = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([\w.]+)")

SLOW = {
    r"^CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY IF NOT EXISTS)\w* *\w+ ON ([\w.]+)": (
        "reads the table under a lock: write CREATE INDEX CONCURRENTLY IF NOT EXISTS, in a file of its own"
    ),
    r"^ALTER TABLE ([\w.]+)\b.*\bADD (?:CONSTRAINT \w+ )?(?:CHECK|FOREIGN KEY)\b(?!.*\bNOT VALID\b)": (
        "reads the table under a lock: add it NOT VALID, and VALIDATE CONSTRAINT in the next file"
    ),
    r"^ALTER TABLE ([\w.]+)\b.*\bADD (?:CONSTRAINT \w+ )?(?:PRIMARY KEY|UNIQUE)(?! USING INDEX)": (
        "builds an index under a lock: build it CONCURRENTLY, and add the constraint USING INDEX"
    ),
    r"^ALTER TABLE ([\w.]+)\b.*\bSET NOT NULL\b": "reads the table under a lock: add CHECK (… IS NOT NULL) NOT VALID",
    r"^ALTER TABLE ([\w.]+)\b.*\bALTER (?:COLUMN )?\w+ (?:SET DATA )?TYPE\b": "writes the table anew: add a column instead",
    r"^(?:UPDATE|DELETE FROM) ([\w.]+)": "locks its rows until the migration ends: leave it to the service, some rows at a time",
    r"^(?:CLUSTER|VACUUM FULL|REINDEX (?!.*CONCURRENTLY))\b.* ([\w.]+)$": "writes the table anew under a lock",
}


def slow_statements(sql: str) -> list[str]:
    """What each statement that is slow on a long table is to be instead. Tables that the file makes itself are empty."""
    text = BODY.sub("", COMMENT.sub("", sql))
    own = set(CREATED.findall(text))
    found = []
    for statement in (" ".join(each.split()) for each in text.split(";")):
        for pattern, advice in SLOW.items():
            hit = re.search(pattern, statement)
            if hit and hit[1] not in own:
                found.append(f"{statement[:80]} … {advice}")
    return found


@pytest.mark.parametrize("migration", shipped(), ids=lambda each: each.name)
def test_no_migration_is_slow_on_a_long_table(migration: Migration) -> None:
    if migration.name not in BEFORE_THE_RULE:
        assert slow_statements(migration.sql) == []


def test_no_two_migrations_have_one_number() -> None:
    numbers = [each.version for each in shipped()]

    assert len(numbers) == len(set(numbers))


def test_an_index_that_is_built_beside_writers_has_a_file_of_its_own() -> None:
    beside = [each.name for each in shipped() if "CONCURRENTLY" in COMMENT.sub("", each.sql)]

    assert beside == [each.name for each in shipped() if each.index]
    assert "0034_runs_undone.sql" in beside


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX late ON slipway.runs (finished_at);",
        "CREATE UNIQUE INDEX late ON slipway.runs (finished_at);",
        "CREATE INDEX CONCURRENTLY late ON slipway.runs (finished_at);",
        "ALTER TABLE slipway.runs ADD CONSTRAINT sane CHECK (attempt >= 0);",
        "ALTER TABLE slipway.runs\n    ADD COLUMN n integer,\n    ADD CONSTRAINT known FOREIGN KEY (n) REFERENCES slipway.kinds;",
        "ALTER TABLE slipway.runs ADD UNIQUE (holder);",
        "ALTER TABLE slipway.runs ALTER COLUMN attempt SET NOT NULL;",
        "ALTER TABLE slipway.runs ALTER COLUMN attempt TYPE bigint;",
        "UPDATE slipway.runs SET undo = false;",
        "REINDEX TABLE slipway.runs;",
    ],
)
def test_a_slow_statement_is_found(statement: str) -> None:
    assert len(slow_statements(statement)) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE slipway.kinds (n integer PRIMARY KEY);\nCREATE INDEX kinds_by_n ON slipway.kinds (n);",
        "ALTER TABLE slipway.runs ADD COLUMN undo boolean NOT NULL DEFAULT false;",
        "ALTER TABLE slipway.runs ADD CONSTRAINT sane CHECK (attempt >= 0) NOT VALID;",
        "CREATE FUNCTION slipway.f() RETURNS void LANGUAGE sql AS $$\n    UPDATE slipway.runs SET undo = false;\n$$;",
        "-- UPDATE slipway.runs\nCREATE INDEX CONCURRENTLY IF NOT EXISTS late ON slipway.runs (finished_at);",
    ],
)
def test_a_quick_statement_is_not(sql: str) -> None:
    assert slow_statements(sql) == []
