import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agent_service.db.pool import Connection, Pool, connection, make_pool
from agent_service.db.session_settings import connect_string
from agent_service.errors import DatabaseUnavailable


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size=1, timeout=10) as opened:
        yield opened


async def pid(conn: Connection) -> int:
    row = await (await conn.execute("SELECT pg_backend_pid() AS pid")).fetchone()
    assert row is not None
    return int(row["pid"])


def test_an_address_keeps_what_it_says_and_gets_the_rest() -> None:
    told = conninfo_to_dict(connect_string("postgresql://u@a:1,b:2/db?connect_timeout=9"))

    assert (told["host"], told["port"], told["user"], told["dbname"]) == ("a,b", "1,2", "u", "db")
    assert (told["connect_timeout"], told["target_session_attrs"], told["tcp_user_timeout"]) == ("9", "read-write", "11000")


async def write_read_only(pool: Pool) -> None:
    async with connection(pool) as conn, conn.transaction():
        await conn.execute("SET TRANSACTION READ ONLY")
        await conn.execute("DELETE FROM slipway.sessions")


async def be_cut(pool: Pool) -> None:
    async with connection(pool) as conn:
        await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_refused_write_is_an_unavailable_database_and_costs_that_connection(pool: Pool) -> None:
    async with connection(pool) as conn:
        before = await pid(conn)
    with pytest.raises(DatabaseUnavailable) as caught:
        await write_read_only(pool)
    async with connection(pool) as conn:
        after = await pid(conn)

    assert caught.value.retry_after
    assert before != after


async def test_a_server_that_became_read_only_is_left_before_it_is_used(pool: Pool) -> None:
    async with connection(pool) as conn:
        before = await pid(conn)
        await conn.execute("SET default_transaction_read_only = on")
    async with connection(pool) as conn:
        after = await pid(conn)

    assert before != after


async def test_a_connection_that_is_cut_in_use_is_an_unavailable_database(pool: Pool) -> None:
    with pytest.raises(DatabaseUnavailable):
        await be_cut(pool)
    async with connection(pool) as conn:
        assert await pid(conn)


async def test_a_connection_that_was_cut_while_idle_is_replaced_before_use(pool: Pool, database_url: str) -> None:
    async with connection(pool) as conn:
        before = await pid(conn)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (before,))
    async with connection(pool) as conn:
        assert await pid(conn) != before


async def test_a_statement_that_is_wrong_stays_an_error_of_its_own(pool: Pool) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with connection(pool) as conn:
            await conn.execute("SELECT * FROM slipway.nothing")


async def test_a_pool_without_a_free_connection_says_so_in_time(database_url: str) -> None:
    async with make_pool(database_url, size=1, timeout=0.1) as small:
        await small.wait()
        async with connection(small):
            with pytest.raises(DatabaseUnavailable) as caught:
                await be_cut(small)

    assert caught.value.retry_after


ERROR = b"SERROR\0VERROR\0C08P01\0Mserver conn crashed?\0\0"


@asynccontextmanager
async def pooler_that_loses_its_server(url: str) -> AsyncIterator[str]:
    """A way to the server that answers the first BEGIN twice with an error, as PgBouncer was seen to do; its address."""
    lost = False
    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        task = asyncio.current_task()
        assert task
        serving.add(task)
        known = conninfo_to_dict(url)
        server_reader, server_writer = await asyncio.open_unix_connection(f"{known['host']}/.s.PGSQL.{known.get('port', 5432)}")
        back = asyncio.create_task(pass_on(server_reader, writer))
        while data := await reader.read(65_536):
            if b"BEGIN" in data and not lost:
                lost = True
                error = b"E" + (len(ERROR) + 4).to_bytes(4, "big") + ERROR
                writer.write(error * 2 + b"Z" + (5).to_bytes(4, "big") + b"I")
                continue
            server_writer.write(data)
        for each in (server_writer, writer):
            each.close()
            await each.wait_closed()
        await back

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield make_conninfo(url, host="127.0.0.1", port=port)
        await asyncio.gather(*serving)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


async def test_a_pooler_that_answers_twice_as_it_loses_its_server_is_an_unavailable_database(database_url: str) -> None:
    async with pooler_that_loses_its_server(database_url) as url, make_pool(url, size=1, timeout=10) as pool:
        with pytest.raises(DatabaseUnavailable):
            async with connection(pool) as conn, conn.transaction():
                pass
        async with connection(pool) as conn, conn.transaction():
            assert await (await conn.execute("SELECT 1 AS n")).fetchone() == {"n": 1}
