"""A database that answers `SELECT 1` and cannot serve a turn.

https://github.com/psycopg/psycopg/issues/571: every question failed while the process said that it was ready.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from typing import cast

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from agent_service.db.faults import READ_ONLY, explain
from agent_service.db.migrate import migrate, shipped
from agent_service.db.pool import Held, Pool, make_pool
from agent_service.errors import SlipwayError
from agent_service.health import now_and_then
from agent_service.resources import database_check
from agent_service.runs.rehearsal import rehearse
from tests.field.roles import owned_database
from tests.support.service import RunningService, running_service

TABLES = ("slipway.sessions", "slipway.runs", "slipway.run_events", "slipway.ledger", "slipway.feedback")
LANGGRAPH = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "store")

UNFIT = {
    **{
        f"no right to insert into {t}": (f"REVOKE INSERT ON {t} FROM CURRENT_USER", "lacks a right.*" + t.split(".")[-1])
        for t in TABLES
    },
    **{f"no right to insert into {t}": (f"REVOKE INSERT ON {t} FROM CURRENT_USER", f"lacks a right.*{t}") for t in LANGGRAPH},
    "no right to delete": ("REVOKE DELETE ON public.checkpoints FROM CURRENT_USER", "lacks a right.*checkpoints"),
    "no right to the schema": ("REVOKE USAGE ON SCHEMA slipway FROM CURRENT_USER", "lacks a right.*schema slipway"),
    "a table that is gone": ("DROP TABLE public.checkpoint_writes", "is not what this build needs.*slipway migrate"),
    "a column that is gone": ("ALTER TABLE slipway.runs DROP COLUMN traceparent", "is not what this build needs.*traceparent"),
    "a function that is gone": ("DROP FUNCTION slipway.fence_all", "is not what this build needs.*fence_all"),
    "another that is gone": ("DROP FUNCTION slipway.begin_run", "is not what this build needs.*begin_run"),
    "an older schema": (
        f"DELETE FROM slipway.schema_migrations WHERE version = {shipped()[-1].version}",
        "run `slipway migrate`",
    ),
    "a newer schema": ("INSERT INTO slipway.schema_migrations VALUES (999, 'x', now(), 999)", "needs code of schema 999"),
    "a constraint that a turn breaks": (
        "ALTER TABLE slipway.ledger ADD CHECK (model <> 'rehearsal')",
        'violates check constraint "ledger_model_check"',
    ),
}


@pytest.fixture(scope="module")
def migrated(admin_url: str) -> Iterator[str]:
    with owned_database(admin_url) as url:
        migrate(url)
        yield url


@pytest.mark.parametrize("case", UNFIT)
async def test_a_database_that_cannot_serve_a_turn_is_not_fit_and_the_check_says_why(migrated: str, case: str) -> None:
    change, said = UNFIT[case]
    async with make_pool(migrated, size=1, timeout=10) as pool:
        async with pool.connection() as conn, conn.transaction(force_rollback=True):
            await conn.execute(change.encode())
            check = database_check(cast("Pool", Held(conn)), migrated)
            with pytest.raises(SlipwayError, match=said):
                await check()
        await database_check(pool, migrated)()


async def test_what_the_database_has_just_answered_to_anybody_is_not_asked_again(migrated: str) -> None:
    async with make_pool(migrated, size=1, timeout=0.3) as pool:
        check = database_check(pool, migrated)
        await check()
        async with pool.connection():  # the only one: who asks has to wait for it
            await check()
            pool.answered = -math.inf
            with pytest.raises(SlipwayError, match="connection"):
                await check()


async def test_a_process_whose_database_became_unfit_is_not_ready_says_why_and_recovers(admin_url: str) -> None:
    with owned_database(admin_url) as url, psycopg.connect(admin_url, autocommit=True) as admin:
        migrate(url)
        user = str(conninfo_to_dict(url)["user"])

        async def until(service: RunningService, status: int) -> str:
            async with service.client() as client, asyncio.timeout(30):
                while (answer := await client.get("/ready")).status_code != status:
                    await asyncio.sleep(0.05)
            return str(answer.json().get("reason"))

        async with running_service(url) as service:
            await until(service, 200)
            admin.execute(f"ALTER ROLE {user} NOLOGIN".encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (user,))
            assert await until(service, 503) == f'database: role "{user}" is not permitted to log in'
            admin.execute(f"ALTER ROLE {user} LOGIN".encode())
            await until(service, 200)
            admin.execute(f"ALTER ROLE {user} SET default_transaction_read_only = on".encode())
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (user,))
            assert await until(service, 503) == f"database: {READ_ONLY}"


async def test_the_expensive_check_is_done_now_and_then_and_its_failure_stands_until_it_passes() -> None:
    calls: list[str] = []
    failures = [ZeroDivisionError("away")]

    async def often() -> None:
        calls.append("often")

    async def rarely() -> None:
        calls.append("rarely")
        if failures:
            raise failures.pop()

    check = now_and_then(often, rarely, every=60, retry=0.05)
    with pytest.raises(ZeroDivisionError):
        await check()
    with pytest.raises(ZeroDivisionError):
        await check()
    await asyncio.sleep(0.06)
    await check()
    await check()

    assert calls == ["often", "rarely", "often", "often", "rarely", "often"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.DiskFull("could not extend file"), "the disk of the database is full: could not extend file"),
        (errors.UntranslatableCharacter("no equivalent in LATIN1"), "must be UTF8"),
        (errors.LockNotAvailable("lock timeout"), "takes too long"),
        (psycopg.OperationalError("connection failed: x failed: session is read-only"), READ_ONLY),
        (psycopg.OperationalError(""), "OperationalError"),
    ],
)
def test_an_error_is_explained_in_a_line(error: Exception, said: str) -> None:
    assert said in explain(error)


async def test_nothing_of_a_rehearsal_stays_and_it_is_cheap(database_url: str) -> None:
    async with make_pool(database_url, size=1, timeout=10) as pool:
        await rehearse(pool)
        began = time.monotonic()
        for _ in range(10):
            await rehearse(pool)
        seconds = (time.monotonic() - began) / 10
        left = {}
        for table in (*TABLES, *(f"public.{name}" for name in LANGGRAPH)):
            async with pool.connection() as conn:
                row = await (await conn.execute(f"SELECT count(*) AS n FROM {table}".encode())).fetchone()
                left[table] = row and row["n"]
    print(f"a rehearsal takes {seconds * 1000:.0f} ms of one connection")

    assert set(left.values()) == {0}
    assert seconds < 2
