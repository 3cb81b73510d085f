"""A pool under cancellation: https://github.com/psycopg/psycopg/issues/1345 (the cancellation lost in the pool's queue),
https://github.com/psycopg/psycopg/issues/1401 (lost with `check`, which our pool has), and
https://github.com/psycopg/psycopg/issues/1208, https://github.com/psycopg/psycopg/issues/509 (connections lost).

On Python 3.11 about one of 200 waiting tasks went on after it had been cancelled: a cancelled run to its paid end. Siblings:
cancelled while a connection is checked, in a statement, in a transaction, in a failed one, behind a pooler; nothing left over.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from agent_service.db import pool as pool_module
from agent_service.db.pool import Pool, connection, make_pool
from agent_service.db.session_settings import Pooler

SIZE = 3

LEFT = "SELECT to_regclass('left_over') AS left_over"

Work = Callable[[Pool], Coroutine[Any, Any, None]]


@pytest.fixture(params=["session", "transaction"])
async def pool(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    pooler: Pooler = request.param
    async with make_pool(database_url, size=SIZE, timeout=20, pooler=pooler) as opened:
        yield opened


async def in_a_statement(pool: Pool) -> None:
    async with connection(pool) as conn:
        await conn.execute("SELECT pg_sleep(0.01)")


async def in_a_transaction(pool: Pool) -> None:
    async with connection(pool) as conn, conn.transaction():
        await conn.execute("CREATE TEMPORARY TABLE left_over (n int)")
        await conn.execute("SELECT pg_sleep(0.01)")
        raise psycopg.Rollback


async def in_a_failed_transaction(pool: Pool) -> None:
    async with connection(pool) as conn, conn.transaction(force_rollback=True):
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            await conn.execute("SELECT 1 / 0")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("work", [in_a_statement, in_a_transaction, in_a_failed_transaction])
async def test_every_connection_comes_back_and_every_cancellation_arrives(pool: Pool, work: Work) -> None:
    for moment in range(30):
        tasks = [asyncio.create_task(work(pool)) for _ in range(SIZE * 4)]
        await asyncio.sleep(moment * 0.0007)
        cancelled = {task for task in tasks if task.cancel()}
        async with asyncio.timeout(20):
            await asyncio.wait(tasks)
        assert {task for task in cancelled if not task.cancelled()} == set()
    held = [pool.connection() for _ in range(SIZE)]
    async with asyncio.timeout(20):
        conns = [await each.__aenter__() for each in held]
        left = [await (await conn.execute(LEFT)).fetchone() for conn in conns]
        for each in held:
            await each.__aexit__(None, None, None)
    assert left == [{"left_over": None}] * SIZE
    assert {conn.info.transaction_status for conn in conns} == {TransactionStatus.IDLE}


async def test_a_cancellation_during_the_check_is_not_taken_for_a_failed_check(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, checks = asyncio.Event(), 0

    async def hang(_: object) -> None:
        nonlocal checks
        checks += 1
        if checks == 1:
            checking.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(pool_module, "_check", hang)
    async with make_pool(database_url, size=1, timeout=20) as pool:
        task = asyncio.create_task(in_a_statement(pool))
        await checking.wait()
        task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([task])
            await in_a_statement(pool)
    assert (task.cancelled(), checks) == (True, 2)
