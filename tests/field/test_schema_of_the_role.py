"""A schema with the role's name, or a `search_path` of the role, captures what names no schema.

https://github.com/launchbadge/sqlx/issues/3523, https://github.com/drizzle-team/drizzle-orm/pull/6024: compose.yaml and the
chart's own database use a role named `slipway`, and LangGraph's statements name no schema.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.store.postgres import PostgresStore
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from agent_service.db.langgraph_tables import TABLES
from agent_service.db.migrate import migrate
from agent_service.errors import SchemaMismatch
from agent_service.runs.prune import Pruned, Retention, prune
from tests.charts.slipway import made
from tests.field.roles import owned_database
from tests.support.service import RunningService, running_service
from tests.support.traces import traces

ROOT = Path(__file__).parent.parent.parent

EVERYTHING_GONE = Retention(event_hours=1e-9, session_days=1e-9)


def role_of_compose() -> str:
    service = yaml.load((ROOT / "compose.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["services"]
    user = str(conninfo_to_dict(service["migrate"]["environment"]["DATABASE_URL"])["user"])
    assert user == service["postgres"]["environment"]["POSTGRES_USER"]
    return user


def role_of_chart() -> str:
    (container,) = made("StatefulSet")["spec"]["template"]["spec"]["containers"]
    return next(str(e["value"]) for e in container["env"] if e["name"] == "POSTGRES_USER")


# The image makes POSTGRES_USER a superuser. A role that is not named here gets a name of its own.
ROLES: dict[str, tuple[Callable[[], str], dict[str, str]]] = {
    "compose and the chart": (role_of_compose, {"attributes": "SUPERUSER"}),
    "a search_path of the role": (str, {"search_path": "app, public"}),
    "a search_path without public": (str, {"search_path": "app"}),
    "a schema with the role's name": (str, {"search_path": '"$user", public'}),
}


def test_the_chart_s_own_database_has_the_role_of_compose() -> None:
    """What is tried here with one is so tried for both."""
    assert role_of_chart() == role_of_compose()


@pytest.fixture(params=ROLES)
def role_url(request: pytest.FixtureRequest, admin_url: str) -> Any:
    name, options = ROLES[request.param]
    with owned_database(admin_url, name(), **options) as url:
        with psycopg.connect(url) as conn:
            conn.execute("CREATE SCHEMA app")
            if not name():
                conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(conn.info.user)))
        yield url


def migrate_as_before(url: str) -> None:
    """As versions did that left the schema to the role's path."""
    migrate(url)
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as conn:
        for table in TABLES:
            conn.execute(sql.SQL("DROP TABLE public.{}").format(sql.Identifier(table)))
        PostgresSaver(conn).setup()
        PostgresStore(conn).setup()


def move(url: str, source: str, target: str) -> None:
    with psycopg.connect(url) as conn:
        for table in TABLES:
            conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(source, table), sql.Identifier(target)))


def count(url: str, table: str, session: str | None = None) -> int:
    with psycopg.connect(url) as conn:
        where = sql.SQL("WHERE thread_id = {}").format(session) if session else sql.SQL("")
        row = conn.execute(sql.SQL("SELECT count(*) FROM {} {}").format(sql.Identifier(*table.split(".")), where)).fetchone()
    return int(row[0]) if row else 0


def schemas_of_langgraph(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute(
            "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relname = ANY(%s)", (list(TABLES),)
        )
        return {row[0] for row in rows}


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[RunningService, httpx.AsyncClient]]:
    async with running_service(url, GUARDRAILS="off") as service, service.client() as client:
        yield service, client


def marker(session: str) -> str:
    """What each question of a session holds, and its title."""
    return f"{session}-7d1f"


async def ask(client: httpx.AsyncClient, session: str, question: str = "What is a lease?") -> None:
    body = {"question": f"{question} ({marker(session)})", "session_id": session}
    run = (await client.post("/chat", json=body)).json()
    assert run["outcome"] == "completed"


async def pruned(service: RunningService, retention: Retention) -> Pruned:
    """By a pass of our own: while the service's is under way, there is none."""
    async with asyncio.timeout(30):
        while (done := await prune(service.resources.pool, retention)) is None:
            await asyncio.sleep(0.05)
    return done


async def erase_and_prune(url: str, service: RunningService, client: httpx.AsyncClient, states: int = 1) -> None:
    """Of two sessions one is erased by its owner, the other by retention, which first keeps so many states of it: the latest,
    and the one before its last question."""
    assert count(url, "public.checkpoints", "erased") > 1
    assert traces(url, marker("erased")).keys() >= {"slipway.runs", "slipway.sessions", "public.checkpoint_blobs"}
    assert (await client.delete("/sessions/erased")).status_code == 204
    assert traces(url, marker("erased")) == {}
    assert [count(url, f"public.{t}", "erased") for t in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")] == [0, 0, 0]
    kept = await pruned(service, Retention(event_hours=1e6, session_days=0))
    assert (kept.threads, count(url, "public.checkpoints", "old")) == (1, states)
    done = await pruned(service, EVERYTHING_GONE)
    assert (done.sessions, count(url, "public.checkpoints")) == (1, 0)
    assert traces(url, marker("old")) == {}


async def test_a_session_is_erased_and_retention_works_whatever_the_role_and_its_path(role_url: str) -> None:
    migrate(role_url)

    assert schemas_of_langgraph(role_url) == {"public"}
    async with serving(role_url) as (service, client):
        await ask(client, "erased")
        await ask(client, "old")
        await erase_and_prune(role_url, service, client)


async def test_a_database_that_was_migrated_elsewhere_is_mended_and_loses_nothing(role_url: str) -> None:
    migrate_as_before(role_url)
    (elsewhere,) = schemas_of_langgraph(role_url)
    if elsewhere != "public":
        move(role_url, elsewhere, "public")
    async with serving(role_url) as (_, client):
        await ask(client, "erased")
        await ask(client, "old")
    before = count(role_url, "public.checkpoints"), count(role_url, "public.checkpoint_blobs")
    if elsewhere != "public":
        move(role_url, "public", elsewhere)

    migrate(role_url)

    assert schemas_of_langgraph(role_url) == {"public"}
    assert (count(role_url, "public.checkpoints"), count(role_url, "public.checkpoint_blobs")) == before
    async with serving(role_url) as (service, client):
        await ask(client, "old", "And a fence?")
        await erase_and_prune(role_url, service, client, states=2)


async def test_tables_in_both_places_become_one_with_the_rows_of_both(admin_url: str) -> None:
    with owned_database(admin_url, role_of_compose(), attributes="SUPERUSER") as url:
        migrate(url)
        async with serving(url) as (_, client):
            await ask(client, "erased")
        move(url, "public", "slipway")
        with psycopg.connect(url, autocommit=True, row_factory=dict_row, options="-c search_path=public") as conn:
            PostgresSaver(conn).setup()
            PostgresStore(conn).setup()
        async with serving(url) as (_, client):
            await ask(client, "old")
        with psycopg.connect(url) as conn:
            for schema, value, when in (("public", '"older"', "2026-01-01"), ("slipway", '"newer"', "2026-02-01")):
                conn.execute(
                    sql.SQL("INSERT INTO {}.store (prefix, key, value, updated_at) VALUES ('p', 'both', {}, {})").format(
                        sql.Identifier(schema), value, when
                    )
                )
            conn.execute("INSERT INTO slipway.store (prefix, key, value) VALUES ('p', 'one', '1')")
        wanted = {s: count(url, f"{place}.checkpoints", s) for s, place in (("erased", "slipway"), ("old", "public"))}

        migrate(url)
        migrate(url)

        assert schemas_of_langgraph(url) == {"public"}
        assert {session: count(url, "public.checkpoints", session) for session in wanted} == wanted
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT key, value FROM store ORDER BY key").fetchall() == [("both", "newer"), ("one", 1)]
        async with serving(url) as (service, client):
            await ask(client, "erased", "And a fence?")
            await erase_and_prune(url, service, client)


def test_tables_of_another_application_stay_where_they_are(admin_url: str) -> None:
    with owned_database(admin_url, search_path="other, public") as url:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as conn:
            conn.execute("CREATE SCHEMA other")
            PostgresSaver(conn).setup()
            conn.execute("INSERT INTO other.checkpoints (thread_id, checkpoint_id, checkpoint) VALUES ('t', '1', '{}')")

        migrate(url)

        assert schemas_of_langgraph(url) == {"other", "public"}
        assert (count(url, "other.checkpoints"), count(url, "public.checkpoints")) == (1, 0)


def test_a_role_that_may_not_create_in_public_is_told_what_to_run(admin_url: str) -> None:
    with owned_database(admin_url) as url:
        with psycopg.connect(admin_url, dbname=conninfo_to_dict(url)["dbname"], autocommit=True) as admin:
            admin.execute("ALTER SCHEMA public OWNER TO CURRENT_USER")
            with pytest.raises(SchemaMismatch, match="GRANT CREATE ON SCHEMA public TO role_") as raised:
                migrate(url)
            admin.execute(raised.value.detail.split("run: ")[1].split(";")[0].encode())

        migrate(url)

        assert schemas_of_langgraph(url) == {"public"}
