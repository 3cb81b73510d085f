"""The attacker has got past the parser: any text runs as the data role runs it. What does the database let through?

Twice: on a database that a superuser migrated, as compose and the chart do, and on one whose owner is nothing else, as at
a provider. There PostgreSQL withholds from no role what every role may call; what then holds is said in docs/operations/data.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from agent_service.child_processes import Workers, open_workers
from agent_service.data.data_reader import AT_ONCE, WORK_MEMORY, DataReader, QueryRefused
from agent_service.db.migrate import migrate
from agent_service.db.pool import Pool, make_pool
from tests.field.roles import owned_database
from tests.service.data.conftest import ANN, BOB, add_run
from tests.support.postgres import fresh_database

MARKS = ("secret", "987650321", "987.65", "s-acme-bob", "SCRAM-SHA-256", "root:")
"""What only other people's rows, other tables, or files hold: long, as four digits are found in times and ids too."""

SECONDS = 0.4

MEASURED_ROWS = 600_000

XML = "query_to_xml('SELECT * FROM slipway.runs', true, true, '')"

HOSTILE = {
    # who asks
    "another user by setting": "SELECT set_config('slipway.user_id', 'bob', true), u.* FROM slipway_data.usage u",
    "another tenant by setting": "SELECT set_config('slipway.tenant', 'globex', true), u.* FROM slipway_data.usage u",
    "setting before the view": "WITH x AS MATERIALIZED (SELECT set_config('slipway.user_id', 'bob', false))"
    " SELECT u.* FROM x, LATERAL (SELECT * FROM slipway_data.usage) u",
    "setting in a filter": "SELECT * FROM slipway_data.runs WHERE set_config('slipway.user_id', 'bob', true) IS NOT NULL",
    "the table of callers": "SELECT * FROM slipway.data_callers",
    "a caller of one's own": "INSERT INTO slipway.data_callers (tenant, user_id) VALUES ('acme', 'bob') RETURNING *",
    "change the caller": "UPDATE slipway.data_callers SET user_id = 'bob' RETURNING *",
    "change the caller in a with query": "WITH x AS (UPDATE slipway.data_callers SET user_id = 'bob' RETURNING 1) TABLE x",
    "delete the caller": "DELETE FROM slipway.data_callers RETURNING *",
    "a function of the same name": "CREATE FUNCTION slipway_data.user_id() RETURNS text RETURN 'bob'",
    "replace the function": "CREATE OR REPLACE FUNCTION slipway_data.user_id() RETURNS text LANGUAGE sql AS $$SELECT 'bob'$$",
    "replace the view": "CREATE OR REPLACE VIEW slipway_data.usage AS SELECT * FROM slipway.ledger",
    "another search path": "SELECT set_config('search_path', 'slipway', true), r.* FROM runs r",
    "a filter that leaks": "SELECT * FROM slipway_data.usage WHERE 1 / (input_tokens - 987650321) > 5",
    "answer within answer": "SELECT * FROM slipway_data.answer('SELECT * FROM slipway.ledger', 10, 100000)",
    "answer within answer, another user": "SELECT set_config('slipway.user_id','bob',true), a.*"
    " FROM slipway_data.answer('SELECT * FROM slipway_data.usage', 10, 100000) a",
    # back to the service's role
    "role none by setting": "SELECT set_config('role', 'none', true), l.* FROM slipway.ledger l",
    "role none, then a query in a text": f"SELECT set_config('role', 'none', true), {XML}",
    "role of the session": f"SELECT set_config('role', session_user::text, true), {XML}",
    "user of the session": "SELECT set_config('session_authorization', session_user::text, true),"
    " table_to_xml('slipway.runs', true, true, '')",
    "set role": "SET ROLE NONE",
    "reset role": "RESET ROLE",
    "reset the session's user": "RESET SESSION AUTHORIZATION",
    "discard": "DISCARD ALL",
    "own the function": "ALTER FUNCTION slipway_data.answer SECURITY INVOKER",
    "drop the function": "DROP FUNCTION slipway_data.answer",
    # other tables
    "the ledger": "SELECT * FROM slipway.ledger",
    "questions": "SELECT question FROM slipway.runs",
    "titles": "TABLE slipway.sessions",
    "instance secrets": "SELECT encode(value, 'hex') || 'secret' FROM slipway.instance_secrets",
    "checkpoints": "SELECT thread_id || 'secret' FROM public.checkpoints",
    "the store": "SELECT value || 'secret' FROM public.store",
    "password hashes": "SELECT rolpassword || 'secret' FROM pg_authid",
    "password hashes, older name": "SELECT passwd || 'secret' FROM pg_shadow",
    "statistics of columns": "SELECT most_common_vals FROM pg_stats WHERE schemaname = 'slipway'",
    "raw statistics": "SELECT stavalues1 FROM pg_statistic",
    "other sessions' queries": "SELECT query || 'secret' FROM pg_stat_activity WHERE query LIKE '%watching%'",
    "a query in a text": "SELECT query_to_xml('SELECT * FROM slipway.ledger', true, true, '')",
    "a schema in a text": "SELECT schema_to_xml('slipway', true, true, '')",
    "a table in a text": "SELECT table_to_xml('slipway.sessions', true, true, '')",
    "the database in a text": "SELECT database_to_xml(true, true, '')",
    "words of a query": "SELECT * FROM ts_stat('SELECT to_tsvector(question) FROM slipway.runs')",
    "user mappings": "SELECT umoptions::text || 'secret' FROM pg_user_mapping",
    "subscriptions": "SELECT subconninfo || 'secret' FROM pg_subscription",
    # files, programs, servers
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "read a file as bytes": "SELECT encode(pg_read_binary_file('/etc/passwd'), 'escape')",
    "list files": "SELECT pg_ls_dir('/etc') || 'secret'",
    "the log": "SELECT pg_current_logfile() || pg_read_file('log')",
    "copy to a program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "copy from a program": "COPY slipway.runs FROM PROGRAM 'id'",
    "copy to a file": "COPY (SELECT 1) TO '/tmp/slipway-stolen'",
    "import a large object": "SELECT lo_import('/etc/passwd')",
    "an extension": "CREATE EXTENSION dblink",
    "another server": "SELECT * FROM dblink('host=127.0.0.1', 'SELECT 1') AS t (a int)",
    "load a library": "LOAD 'auto_explain'",
    "settings of the server": "SELECT pg_reload_conf() AND 'secret' = ''",
    "a setting in the file": "ALTER SYSTEM SET work_mem = '1GB'",
    "a file's size": "SELECT size || 'secret' FROM pg_stat_file('/etc/passwd')",
    "the log's folder": "SELECT name || 'secret' FROM pg_ls_logdir()",
    "files of the write-ahead log": "SELECT name || 'secret' FROM pg_ls_waldir()",
    "a large object into a file": "SELECT lo_export(1, '/tmp/slipway-stolen')",
    "settings with the server's files": "SELECT current_setting('hba_file') || 'secret', current_setting('data_directory')",
    "the standby's password": "SELECT current_setting('primary_conninfo') || 'secret'",
    "a library's arguments": "SELECT current_setting('shared_preload_libraries') || current_setting('archive_command')"
    " || 'secret' WHERE current_setting('config_file') IS NOT NULL",
    "rules of authentication": "SELECT auth_method || 'secret' FROM pg_hba_file_rules",
    "the settings file": "SELECT setting || 'secret' FROM pg_file_settings",
    "settings of roles": "SELECT setconfig::text || 'secret' FROM pg_db_role_setting",
    "other sessions' queries by function": "SELECT query || 'secret' FROM pg_stat_get_activity(NULL)"
    " WHERE query LIKE '%watching%'",
    "other sessions' queries by number": "SELECT pg_stat_get_backend_activity(i) || 'secret' FROM generate_series(1, 50) i"
    " WHERE pg_stat_get_backend_activity(i) LIKE '%watching%'",
    "statistics of statements": "SELECT query || 'secret' FROM pg_stat_statements",
    # writes
    "insert": "INSERT INTO slipway.feedback SELECT id, 1 FROM slipway.runs RETURNING *",
    "insert through a view": "INSERT INTO slipway_data.runs (run_id) VALUES (gen_random_uuid()) RETURNING *",
    "update through a view": "UPDATE slipway_data.runs SET outcome = 'failed' RETURNING *",
    "delete in a with query": "WITH x AS (DELETE FROM slipway.ledger RETURNING *) SELECT * FROM x",
    "truncate": "TRUNCATE slipway.ledger",
    "a table": "CREATE TABLE public.x (a int)",
    "a temporary table": "CREATE TEMP TABLE x AS SELECT 1",
    "select into": "SELECT 1 INTO TEMP x",
    "a function": "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a schema": "CREATE SCHEMA x",
    "a role": "CREATE ROLE hacker SUPERUSER",
    "grant oneself": "GRANT ALL ON ALL TABLES IN SCHEMA slipway TO slipway_data_reader",
    "read and write": "SET TRANSACTION READ WRITE",
    "read and write by setting": "SELECT set_config('transaction_read_only', 'off', true)",
    "a large object": "SELECT lo_create(0)",
    "a large object of bytes": "SELECT lo_from_bytea(0, 'x')",
    "a sequence": "SELECT nextval('slipway.ledger_id_seq'), 'secret'",
    "a sequence set": "SELECT setval('slipway.ledger_id_seq', 1)",
    "a sequence read": "SELECT last_value || 'secret' FROM slipway.ledger_id_seq",
    "the last of a sequence": "SELECT currval('slipway.ledger_id_seq'), lastval()",
    "bytes of a large object": "SELECT lo_put(1, 0, 'x'), lo_get(1)",
    "an open large object": "SELECT lowrite(lo_open(lo_create(0), 131072), 'x')",
    "end a large object": "SELECT lo_unlink(loid) FROM generate_series(1, 100) loid",
    "a block": "DO $$ BEGIN PERFORM pg_sleep(9); END $$",
    "a comment": "COMMENT ON TABLE slipway.runs IS 'x'",
    # notices, locks, other sessions
    "notify by function": "SELECT pg_notify('watching', 'hostile')",
    "notify": "NOTIFY watching, 'hostile'",
    "listen": "LISTEN slipway_events",
    "lock a table": "LOCK TABLE slipway.runs",
    "lock rows": "SELECT * FROM slipway_data.runs FOR UPDATE",
    "advisory lock of the session": "SELECT pg_advisory_lock(1360005799), pg_advisory_lock(5)",
    "advisory lock, shared": "SELECT pg_advisory_lock_shared(5)",
    "advisory lock, tried": "SELECT pg_try_advisory_lock(5, 5)",
    "many locks": "SELECT count(pg_advisory_xact_lock(i)) FROM generate_series(1, 100) i",
    "end other sessions": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    "cancel other sessions": "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    "the write-ahead log": "SELECT pg_logical_emit_message(false, 'x', 'hostile')",
    # transactions
    "two statements": "SELECT 1; DELETE FROM slipway.ledger",
    "out of the parentheses": "SELECT 1) AS x; COMMIT; DELETE FROM slipway.ledger; --",
    "out of the parentheses, quietly": "SELECT 1) AS x, slipway.runs AS y --",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "prepare": "PREPARE p AS SELECT 1",
    "execute what others prepared": "EXECUTE p",
    "end what others prepared": "DEALLOCATE ALL",
    "read a cursor": "FETCH ALL FROM c",
    "prepared statements": "SELECT statement || 'secret' FROM pg_prepared_statements WHERE statement LIKE '%slipway%'",
    "a query prepared in a block": "DO $$ BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END $$",
    "a savepoint": "SAVEPOINT x",
    "a transaction for later": "PREPARE TRANSACTION 'x'",
    "a cursor that stays": "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM slipway.runs",
    # time
    "sleep": "SELECT pg_sleep(30)",
    "sleep without a deadline": "SELECT set_config('statement_timeout', '0', true), pg_sleep(30)",
    "no deadline by statement": "SET statement_timeout = 0",
    "no deadline for this transaction": "SET LOCAL statement_timeout = 0",
    "no deadline, then work": "SELECT count(*) FROM (SELECT set_config('statement_timeout', '0', false)) x,"
    " generate_series(1, 100000) a, generate_series(1, 100000) b",
    "sleep until": "SELECT pg_sleep_until(now() + interval '1 hour')",
    "sleep for": "SELECT pg_sleep_for('1 hour')",
    "more memory by setting": "SELECT set_config('work_mem', '2GB', false), count(*) FROM generate_series(1, 10)",
    "more temporary files by setting": "SELECT set_config('temp_file_limit', '-1', false)",
    "sleep by rows": "SELECT pg_sleep(0.2) FROM generate_series(1, 1000)",
    "work": "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b",
    "work without end": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    # size
    "many rows": "SELECT i FROM generate_series(1, 100000000) AS g (i)",
    "a long row": "SELECT repeat('x', 200000)",
    "many bytes": "SELECT md5(i::text) || md5((i + 1)::text) FROM generate_series(1, 200000) AS g (i)",
    "temporary files": "SELECT count(*) FROM (SELECT md5(i::text) AS t FROM generate_series(1, 3000000) i ORDER BY t) x",
}

RESIDUE = """
SELECT (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors,
       (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) AS prepared,
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'object')) AS locks,
       current_setting('role') AS role, current_setting('transaction_read_only') AS writable,
       current_setting('statement_timeout') AS timeout, current_setting('work_mem') AS memory
"""
"""What a query might leave in its connection for the next one."""


@dataclass
class Attacked:
    url: str
    pool: Pool
    reader: DataReader
    admin: psycopg.AsyncConnection[Any]
    superuser: bool

    async def state(self) -> dict[str, object]:
        """What no query may change."""
        counts = await self.admin.execute(
            "SELECT (SELECT count(*) FROM slipway.ledger), (SELECT count(*) FROM slipway.runs),"
            " (SELECT count(*) FROM slipway.data_callers),"
            " (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_largeobject_metadata),"
            " (SELECT count(*) FROM pg_roles WHERE rolname = 'hacker'), (SELECT last_value FROM slipway.ledger_id_seq),"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
            "  (SELECT oid FROM pg_database WHERE datname = current_database())),"
            " (SELECT count(*) FROM pg_listening_channels()),"
            " (SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'answer')"
        )
        return {"state": await counts.fetchone()}


@pytest.fixture(params=["superuser", "owner"])
async def attacked(request: pytest.FixtureRequest, admin_url: str, workers: Workers) -> AsyncIterator[Attacked]:
    superuser = request.param == "superuser"
    with database(admin_url, superuser=superuser) as url:
        with psycopg.connect(url) as conn:
            for who, tokens, usd in ((ANN, 100, "0.25"), (BOB, 987_650_321, "987.65")):
                add_run(conn, who, calls=[("gpt-x", tokens, usd)])
        async with (
            make_pool(url, size=1, timeout=10) as pool,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as admin,
        ):
            await admin.execute("LISTEN watching")
            yield Attacked(
                url, pool, DataReader(pool, workers, schemas=("slipway_data",), timeout=SECONDS, row_limit=100), admin, superuser
            )


@contextmanager
def database(admin_url: str, *, superuser: bool) -> Iterator[str]:
    if superuser:
        with fresh_database(admin_url) as url:
            yield url
        return
    with owned_database(admin_url) as url:
        migrate(url)
        yield url


@pytest.mark.timeout(180)
async def test_past_the_parser_nothing_leaks_changes_or_stays(attacked: Attacked) -> None:
    before = await attacked.state()
    leaks, refused, slowest = [], 0, 0.0
    for name, hostile in HOSTILE.items():
        began = time.monotonic()
        try:
            async with attacked.pool.connection() as conn, attacked.reader._deadline():
                lines = await attacked.reader.run(conn, hostile, ANN)
        except (psycopg.Error, QueryRefused):
            refused += 1
        else:
            text = "\n".join(str(line["line"]) for line in lines)
            if any(mark in text for mark in MARKS) or len(text) > 1_200_000 or len(lines) > 101:
                leaks.append(f"{name}: {text[:80]}")
        slowest = max(slowest, time.monotonic() - began)
        if (after := await attacked.state()) != before:
            leaks.append(f"{name}: changed {before} to {after}")
            before = after
    async with attacked.pool.connection() as conn:  # the only one
        left = await (await conn.execute(RESIDUE)).fetchone()
    heard = [notice.payload async for notice in attacked.admin.notifies(timeout=0.2)]
    sees = await attacked.reader.query("SELECT sum(input_tokens) FROM usage", principal=ANN)
    kind = "superuser" if attacked.superuser else "owner"
    print(  # the count
        f"data role past the parser ({kind}): {len(HOSTILE)} hostile statements, {refused} refused, {len(leaks)} leaks,"
        f" {len(heard)} notices, slowest {slowest:.1f} s"
    )

    assert len(HOSTILE) >= 60
    assert leaks == []
    assert left == {"cursors": 0, "prepared": 0, "locks": 0, "role": "none", "writable": "off", "timeout": "0", "memory": "4MB"}
    assert heard == []
    assert slowest < SECONDS + 20, "none goes on for ever; a busy machine has taken six seconds for what ends after 0.4"
    assert sees.rows == ((100,),)


@pytest.mark.parametrize(
    "called",
    [
        "pg_advisory_lock(1)",
        "pg_notify('a', 'b')",
        "pg_sleep(0)",
        "set_config('work_mem', '1GB', true)",
        "repeat('x', 9)",
        "lpad('x', 9)",
        "lo_create(0)",
        "query_to_xml('SELECT 1', true, true, '')",
    ],
)
async def test_where_a_superuser_migrated_a_query_may_not_even_call_it(admin_url: str, called: str, workers: Workers) -> None:
    with fresh_database(admin_url) as url:
        async with make_pool(url, size=1, timeout=10) as pool, pool.connection() as conn:
            reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
                await reader.run(conn, f"SELECT {called}", ANN)


async def test_temporary_files_are_limited_and_no_query_raises_the_limit(admin_url: str, workers: Workers) -> None:
    sort = "SELECT count(*) FROM (SELECT md5(i::text) || md5(i::text) AS t FROM generate_series(1, 2000000) i ORDER BY t) x"
    with fresh_database(admin_url) as url:
        async with make_pool(url, size=1, timeout=10) as pool, pool.connection() as conn:
            reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=30, row_limit=10)
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temp_file_limit"):
                await reader.run(conn, sort, ANN)


async def test_a_query_of_many_sorts_takes_its_work_memory_for_each_and_no_more(admin_url: str, workers: Workers) -> None:
    sorts, rows = 12, 150_000
    parts = " UNION ALL ".join(
        f"(SELECT count(DISTINCT t) FROM (SELECT md5((i + {n})::text) AS t"
        f" FROM generate_series(1, {rows}) i ORDER BY t OFFSET 1) x)"
        for n in range(sorts)
    )
    with fresh_database(admin_url) as url:
        async with make_pool(url, size=1, timeout=30) as pool:
            reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=60, row_limit=20)

            async def run() -> None:
                async with pool.connection() as conn:
                    await reader.run(conn, parts, ANN)

            peak = await peak_while(url, [run()])
    print(
        f"data query memory: {sorts} sorts of {rows * 32 // 1_000_000} MB each take {peak // 1000} MB with work_mem {WORK_MEMORY}"
    )
    assert peak < 200_000  # three nodes of each part: the rows, the sort, the count


async def test_ten_queries_at_once_take_the_memory_of_two(admin_url: str) -> None:
    # Allowed by the grammar, and among the largest: one text of all rows, then its length.
    query = f"SELECT length(string_agg(md5(i::text), '')) FROM generate_series(1, {MEASURED_ROWS}) AS g(i)"
    with fresh_database(admin_url) as url:
        # Its own workers: where calls wait for them, they belong to the loop of this test.
        async with make_pool(url, size=10, timeout=30) as pool, open_workers() as workers:
            reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=30, row_limit=10)
            one = await peak_while(url, [reader.query(query, principal=ANN)])
            ten = await peak_while(url, [reader.query(query, principal=ANN) for _ in range(10)])
    print(f"data query memory: one {one // 1000} MB, ten at once {ten // 1000} MB ({AT_ONCE} run at a time)")

    assert one < 150_000
    assert ten < AT_ONCE * one + 60_000


async def peak_while(url: str, queries: list[Coroutine[Any, Any, Any]]) -> int:
    """kB of anonymous memory that the database's processes had more than before, at most."""
    done = asyncio.gather(*queries)
    peak = 0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as admin:
        while not done.done():
            rows = await (
                await admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%slipway_data.answer%'"
                    " AND pid <> pg_backend_pid()"
                )
            ).fetchall()
            peak = max(peak, sum(anonymous(row["pid"]) for row in rows))
            await asyncio.sleep(0.02)
    await done
    return peak


def anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
