"""A role or a database with settings of its own.

https://github.com/psycopg/psycopg/issues/571: psycopg reads dates of `DateStyle = 'ISO'` alone, so with another every
question failed while the process said that it was ready.
"""

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from agent_service.db.migrate import migrate
from agent_service.db.session_settings import LATER_SETTINGS
from agent_service.db.session_settings import SETTINGS as SESSION
from agent_service.errors import SchemaMismatch
from agent_service.principal import Principal
from agent_service.runs.prune import Retention, prune
from agent_service.runs.usage import usage
from tests.field.roles import owned_database
from tests.support.service import running_service

PINNED = {**SESSION, **{name: value for name, (value, _) in LATER_SETTINGS.items()}}
"""The tests' server knows them all."""

ANYONE = Principal("default", "anonymous")

ROLES = {
    "dates": {"DateStyle": "'SQL, DMY'"},
    "formats": {
        "DateStyle": "'German'",
        "IntervalStyle": "'iso_8601'",
        "TimeZone": "'<+05:45>-05:45'",
        "bytea_output": "'escape'",
        "extra_float_digits": "-15",
        "standard_conforming_strings": "off",
        "array_nulls": "off",
        "client_encoding": "'LATIN1'",
    },
    "transactions": {"default_transaction_isolation": "'serializable'", "default_transaction_deferrable": "on"},
    # What asks for the facts of a connection must fit, on a busy machine too.
    "timeouts": {
        "statement_timeout": "'250ms'",
        "transaction_timeout": "'250ms'",
        "idle_session_timeout": "'250ms'",
        "lock_timeout": "'1ms'",
        "idle_in_transaction_session_timeout": "'1ms'",
    },
}


@pytest.mark.parametrize(("kind", "whose"), [*((kind, "ROLE") for kind in ROLES), ("formats", "DATABASE")])
async def test_a_turn_an_erasure_and_retention_work_with_any_setting(admin_url: str, kind: str, whose: str) -> None:
    with owned_database(admin_url) as url:
        told = conninfo_to_dict(url)
        subject = sql.Identifier(str(told["user" if whose == "ROLE" else "dbname"]))
        with psycopg.connect(admin_url, autocommit=True) as admin:
            for setting, value in ROLES[kind].items():
                statement = f"ALTER {whose} {subject.as_string()} SET {setting} = {value}"
                admin.execute(statement.encode())
        migrate(url)
        async with running_service(url) as service, service.client() as client:
            for session in ("one", "one", "two"):
                run = (await client.post("/chat", json={"question": "What is a léase? 😀", "session_id": session})).json()
                assert run["outcome"] == "completed", run
            history = (await client.get("/sessions/one/messages")).json()
            listed = (await client.get("/sessions")).json()
            async with service.resources.pool.connection() as conn:
                shown = [(await (await conn.execute(f"SHOW {name}".encode())).fetchone() or {}) for name in PINNED]
            rows = (await usage(service.resources.pool, ANYONE, ["day"])).rows
            erased = await client.delete("/sessions/one")
            done = await prune(service.resources.pool, Retention(event_hours=1e-9, session_days=1e-9))

    assert {name: value for row in shown for name, value in row.items()} == PINNED
    assert [m["content"] for m in history["messages"] if m["role"] == "user"] == ["What is a léase? 😀"] * 2
    assert all(session["created_at"].endswith(("Z", "+00:00")) for session in listed["sessions"]), listed
    assert all(row["day"].count("-") == 2 for row in rows)
    assert erased.status_code == 204
    assert done is not None
    assert done.sessions == 1


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused_by_migrate(admin_url: str, encoding: str) -> None:
    with owned_database(admin_url, encoding=encoding) as url, pytest.raises(SchemaMismatch, match=f"encoding is {encoding}"):
        migrate(url)
