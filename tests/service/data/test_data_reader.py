"""DataReader on a real PostgreSQL: what a user may see, and what the database refuses when nobody checked the query."""

import asyncio
import dataclasses
from datetime import UTC, datetime

import psycopg
import pytest

from agent_service.child_processes import Workers
from agent_service.data.data_reader import ROLE, DataReader, QueryRefused
from agent_service.db.pool import Pool, make_pool
from agent_service.errors import DatabaseUnavailable
from agent_service.principal import Principal
from tests.service.data.conftest import ANN, BOB, OTHER_ANN

NOBODY = Principal("acme", "nobody")


async def test_what_did_i_spend_today_by_model(reader: DataReader) -> None:
    result = await reader.query(
        "SELECT model, sum(cost_usd) AS usd, sum(input_tokens) AS tokens FROM slipway_data.usage"
        " WHERE day = CURRENT_DATE GROUP BY model ORDER BY usd DESC NULLS LAST",
        principal=ANN,
    )

    assert result.columns == ("model", "usd", "tokens")
    assert result.rows == (("gpt-x", 0.375, 150), ("mini", 0.01, 10), ("free", None, 7))
    assert not result.truncated


@pytest.mark.parametrize(("principal", "spent"), [(BOB, 99), (OTHER_ANN, 88), (NOBODY, None)])
async def test_each_principal_sees_its_own_rows_only(reader: DataReader, principal: Principal, spent: int | None) -> None:
    result = await reader.query("SELECT sum(cost_usd) FROM usage", principal=principal)

    assert result.rows == ((spent,),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM usage WHERE input_tokens > 1000",
        "SELECT count(*) FROM usage WHERE true OR 1 = 1 GROUP BY () HAVING sum(input_tokens) > 1000",
        "SELECT count(*) FROM feedback WHERE score = 0",
        "SELECT count(*) FROM runs AS a JOIN feedback AS b ON a.run_id <> b.run_id",
        # A filter that would fail on another user's row tells that there is one, unless the view is a security barrier.
        "SELECT count(*) FROM usage WHERE 1 / (input_tokens - 9000) > 5",
        "SELECT count(*) FROM usage WHERE CAST(CASE WHEN input_tokens = 9000 THEN 'leak' ELSE '0' END AS int) > 5",
    ],
)
async def test_no_query_reaches_another_users_rows(reader: DataReader, sql: str) -> None:
    result = await reader.query(sql, principal=ANN)

    assert result.rows in (((0,),), ())


async def test_a_principal_whose_name_is_sql_sees_nothing(reader: DataReader) -> None:
    result = await reader.query("SELECT count(*) FROM usage", principal=Principal("acme' OR '1'='1", "x'; DROP TABLE y; --"))

    assert result.rows == ((0,),)


async def test_principal_of_one_query_is_gone_in_the_next(seeded_url: str, workers: Workers) -> None:
    async with make_pool(seeded_url, size=1, timeout=5) as pool:
        reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
        await reader.query("SELECT 1 FROM usage", principal=ANN)
        async with pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT current_user::text AS role, current_setting('slipway.tenant', true) AS tenant,"
                    " current_setting('transaction_read_only') AS read_only,"
                    " (SELECT count(*) FROM slipway.data_callers) AS callers"
                )
            ).fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="nobody asks here"):
                await conn.execute("SELECT count(*) FROM slipway_data.usage")

    assert row is not None
    assert row["role"] != ROLE
    assert (row["tenant"], row["read_only"], row["callers"]) == ("", "off", 0)


async def test_row_limit_cuts_and_says_so(pool: Pool, workers: Workers) -> None:
    reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=3)

    cut = await reader.query("SELECT i FROM generate_series(1, 1000000) AS g(i) ORDER BY i", principal=ANN)
    whole = await reader.query("SELECT i FROM generate_series(1, 3) AS g(i)", principal=ANN)

    assert (cut.rows, cut.truncated) == (((1,), (2,), (3,)), True)
    assert (len(whole.rows), whole.truncated) == (3, False)


async def test_query_beyond_the_timeout_is_refused(pool: Pool, workers: Workers) -> None:
    reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=0.2, row_limit=10)

    with pytest.raises(QueryRefused, match=r"longer than 0\.2 s"):
        await reader.query("SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b", principal=ANN)
    assert (await reader.query("SELECT 1", principal=ANN)).rows == ((1,),)


async def test_row_too_large_for_the_service_is_refused(reader: DataReader) -> None:
    with pytest.raises(QueryRefused, match="larger than 100 kB"):
        await reader.query("SELECT string_agg(md5(i::text), '') FROM generate_series(1, 4000) AS g(i)", principal=ANN)


async def test_parameters_are_bound_not_pasted(reader: DataReader) -> None:
    sql = "SELECT model, count(*) FROM usage WHERE model = %(model)s AND input_tokens >= %(least)s GROUP BY model"

    found = await reader.query(sql, {"model": "gpt-x", "least": 60}, principal=ANN)
    attack = await reader.query(sql, {"model": "' OR 1=1 --", "least": 0}, principal=ANN)

    assert found.rows == (("gpt-x", 1),)
    assert attack.rows == ()


async def test_missing_parameter_is_refused_by_name(reader: DataReader) -> None:
    with pytest.raises(QueryRefused, match="least"):
        await reader.query("SELECT 1 FROM usage WHERE input_tokens > %(least)s", {}, principal=ANN)


async def test_value_that_cannot_be_bound_is_refused(reader: DataReader) -> None:
    with pytest.raises(QueryRefused):
        await reader.query("SELECT %(x)s", {"x": {"a": 1}}, principal=ANN)


async def test_percent_signs_of_a_query_are_its_own(reader: DataReader) -> None:
    result = await reader.query(
        "SELECT count(*) % 3 FROM usage WHERE model LIKE '%pt%' AND model LIKE %(m)s", {"m": "g%"}, principal=ANN
    )

    assert result.rows == ((2,),)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT nothing FROM usage", 'column "nothing" does not exist'),
        ("SELECT * FROM missing", 'relation "missing" does not exist'),
        ("SELECT * FROM slipway_data.missing", "does not exist"),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT 'x'::date", "invalid input syntax for type date"),
    ],
)
async def test_postgresql_error_is_a_refusal_with_its_message(reader: DataReader, sql: str, said: str) -> None:
    with pytest.raises(QueryRefused, match=said):
        await reader.query(sql, principal=ANN)


async def test_with_query_may_have_the_name_of_the_table_it_reads(reader: DataReader) -> None:
    result = await reader.query(
        "WITH usage AS (SELECT * FROM usage WHERE model = 'mini') SELECT count(*) FROM usage", principal=ANN
    )

    assert result.rows == ((1,),)


async def test_runs_show_durations_and_lengths_but_no_text(reader: DataReader) -> None:
    result = await reader.query("SELECT * FROM runs", principal=ANN)

    row = dict(zip(result.columns, result.rows[0], strict=True))
    assert (row["outcome"], row["route"], row["seconds"], row["question_chars"]) == ("completed", "DATA", 2.0, 15)
    assert "secret" not in str(result.rows)


ORDINARY = [
    "SELECT day, model, sum(cost_usd)::numeric(10, 2) FROM usage GROUP BY ROLLUP (day, model) ORDER BY 1, 2",
    "SELECT date_trunc('hour', time) AS hour, count(DISTINCT session_id) FROM usage GROUP BY 1 ORDER BY 1 DESC LIMIT 5",
    "SELECT to_char(time, 'YYYY-MM-DD HH24:MI') FROM usage WHERE time > now() - interval '7 days'",
    "SELECT date_bin('15 minutes', time, TIMESTAMPTZ '2026-01-01') FROM usage",
    "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) FROM runs",
    "SELECT percentile_disc(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY seconds) FROM runs",
    "SELECT extract(epoch FROM finished_at - started_at), date_part('hour', created_at), age(finished_at, started_at) FROM runs",
    "SELECT count(*) FILTER (WHERE outcome = 'failed')::float / nullif(count(*), 0) FROM runs",
    "SELECT model, sum(output_tokens) OVER (ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM usage",
    "SELECT rank() OVER w, lag(cost_usd, 1) OVER w FROM usage WINDOW w AS (ORDER BY cost_usd)",
    "SELECT DISTINCT ON (model) model, time FROM usage ORDER BY model, time DESC NULLS LAST",
    "SELECT d, sum(cost_usd) FROM generate_series(now() - interval '1 week', now(), '1 day') AS d, usage GROUP BY d",
    "SELECT string_agg(DISTINCT model, ', ' ORDER BY model), array_agg(model), bool_or(cost_usd IS NULL) FROM usage",
    "SELECT jsonb_build_object('m', model) ->> 'm', upper(left(model, 2)), split_part(model, '-', 1), initcap(model) FROM usage",
    "SELECT CASE WHEN cost_usd > 0.1 THEN 'much' ELSE 'little' END AS size, round(avg(cost_usd), 4) FROM usage GROUP BY 1",
    "SELECT replace(model, 'gpt', 'GPT'), regexp_replace(model, 'x$', '') FROM usage",
    "(SELECT model FROM usage LIMIT 1) UNION ALL (SELECT outcome FROM runs LIMIT 1) ORDER BY 1",
    "SELECT x.usd FROM runs AS r, LATERAL (SELECT sum(cost_usd) AS usd FROM usage AS u WHERE u.run_id = r.run_id) AS x",
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(x, y) WHERE (x, y) IN (SELECT 1, 'a')",
    "SELECT model ILIKE 'GPT%', model ~ '^g', model SIMILAR TO 'g%', position('x' IN model), trim('g' FROM model) FROM usage",
    "SELECT 1 AS a, 2 AS a, time AT TIME ZONE 'Europe/Berlin' FROM usage FETCH FIRST 2 ROWS ONLY",
    "SELECT unnest(ARRAY[1, 2]), greatest(1, 2), width_bucket(5, 0, 10, 5), md5('x'), random() < 2;",
]


@pytest.mark.parametrize("sql", ORDINARY)
async def test_ordinary_analytics_still_run_after_the_rebuild(reader: DataReader, sql: str) -> None:
    assert (await reader.query(sql, principal=ANN)).rows


async def test_description_lists_tables_columns_and_comments(reader: DataReader) -> None:
    text = await reader.describe()

    assert "slipway_data.usage -- your model calls" in text
    assert "\n  cost_usd numeric(14,8)" in text or "\n  cost_usd numeric" in text
    assert "question " not in text


async def test_a_teams_schema_is_read_once_it_is_granted_and_allowed(seeded_url: str, pool: Pool, workers: Workers) -> None:
    with psycopg.connect(seeded_url) as conn:
        conn.execute("CREATE SCHEMA shop CREATE TABLE orders (id int, paid timestamptz) CREATE TABLE internal (id int)")
        conn.execute("INSERT INTO shop.orders VALUES (1, '2026-01-01 12:00+00')")
        conn.execute("GRANT USAGE ON SCHEMA shop TO slipway_data_reader")
        conn.execute("GRANT SELECT ON shop.orders TO slipway_data_reader")
    reader = DataReader(pool, workers, schemas=("shop", "slipway_data"), timeout=5, row_limit=10)

    result = await reader.query("SELECT id, paid FROM orders", principal=ANN)

    assert result.rows == ((1, datetime(2026, 1, 1, 12, tzinfo=UTC).isoformat()),)
    with pytest.raises(QueryRefused, match="permission denied"):
        await reader.query("SELECT * FROM shop.internal", principal=ANN)
    text = await reader.describe()
    assert text.startswith("shop.orders")
    assert "shop.internal" not in text


async def test_catalogue_has_no_relation_that_an_unqualified_name_could_reach(pool: Pool) -> None:
    async with pool.connection() as conn:
        rows = await conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relname !~ '^pg_'"
        )
        assert await rows.fetchall() == []


async def test_database_down_is_not_a_refusal(pool: Pool, reader: DataReader) -> None:
    await pool.close()

    with pytest.raises(DatabaseUnavailable):
        await reader.query("SELECT 1", principal=ANN)


async def test_connection_lost_during_a_query_is_not_a_refusal(seeded_url: str, reader: DataReader) -> None:
    slow = "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b"
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE %s AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    query = asyncio.create_task(reader.query(slow, principal=ANN))
    async with await psycopg.AsyncConnection.connect(seeded_url, autocommit=True) as conn:
        while not await (await conn.execute(kill, ("%slipway_data.answer%",))).fetchall():  # the event is in another process
            await asyncio.sleep(0.01)

    with pytest.raises(DatabaseUnavailable):
        await query


async def test_result_cannot_be_changed(reader: DataReader) -> None:
    result = await reader.query("SELECT 1", principal=ANN)

    with pytest.raises(dataclasses.FrozenInstanceError):
        result.truncated = True  # type: ignore[misc]  # the point
