import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot.dialects.postgres import Postgres
from sqlglot.tokenizer_core import TokenType

from agent_service.data.query import MAX_SQL_CHARS, QueryRefused
from agent_service.data.statement import prepare

SCHEMAS = ("slipway_data", "shop")

HOSTILE = {
    # more than one statement, or not a SELECT
    "empty": "",
    "only a comment": "-- SELECT 1",
    "two statements": "SELECT 1; DROP TABLE slipway.runs",
    "a statement after a comment": "SELECT 1 /* ; */; DELETE FROM slipway.ledger --",
    "insert": "INSERT INTO slipway_data.runs VALUES (1)",
    "update": "UPDATE slipway.ledger SET cost_usd = 0",
    "delete": "DELETE FROM slipway.ledger",
    "merge": "MERGE INTO slipway.ledger USING usage ON true WHEN MATCHED THEN DELETE",
    "truncate": "TRUNCATE slipway.ledger",
    "drop": "DROP SCHEMA slipway CASCADE",
    "create table as": "CREATE TABLE x AS SELECT * FROM usage",
    "copy to a program": "COPY usage TO PROGRAM 'id'",
    "copy from a file": "COPY (SELECT 1) TO '/tmp/x'",
    "anonymous block": "DO $$ BEGIN PERFORM pg_sleep(9); END $$",
    "call": "CALL refresh()",
    "set role": "SET ROLE postgres",
    "reset role": "RESET ROLE",
    "commit first": "COMMIT; SELECT 1",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM usage",
    "prepare": "PREPARE p AS SELECT 1",
    "listen": "LISTEN slipway",
    "show": "SHOW data_directory",
    "lock": "LOCK TABLE usage",
    # writes and locks inside a SELECT
    "select into": "SELECT * INTO copied FROM usage",
    "select for update": "SELECT * FROM usage FOR UPDATE",
    "select for share": "SELECT * FROM usage FOR SHARE",
    "insert in a with query": "WITH x AS (INSERT INTO slipway.feedback VALUES (1) RETURNING *) SELECT * FROM x",
    "delete in a with query": "WITH x AS (DELETE FROM slipway.ledger RETURNING *) SELECT * FROM x",
    "update in a nested with query": "SELECT * FROM (WITH x AS (UPDATE usage SET a = 1 RETURNING 1) SELECT * FROM x) y",
    # tables elsewhere
    "the real ledger": "SELECT * FROM slipway.ledger",
    "quoted schema": 'SELECT * FROM "slipway"."ledger"',
    "schema in capitals": "SELECT * FROM SLIPWAY.LEDGER",
    "quoted capitals are another schema": 'SELECT * FROM "SLIPWAY_DATA".usage',
    "unicode-escaped schema": 'SELECT * FROM U&"sl\\0069pway".ledger',
    "full-width letters": "SELECT * FROM \uff53lipway.ledger",
    "comment inside the name": "SELECT * FROM slipway/**/./**/ledger",
    "public": "SELECT * FROM public.checkpoints",
    "catalogue": "SELECT * FROM pg_catalog.pg_authid",
    "unqualified catalogue": "SELECT * FROM pg_authid",
    "quoted catalogue": 'SELECT * FROM "pg_authid"',
    "catalogue in capitals": "SELECT * FROM PG_Roles",
    "catalogue behind a with query's name": "SELECT * FROM pg_roles, (WITH pg_roles AS (SELECT 1) SELECT * FROM pg_roles) x",
    "information schema": "SELECT * FROM information_schema.tables",
    "another database": "SELECT * FROM postgres.slipway_data.usage",
    "in a subquery": "SELECT (SELECT count(*) FROM slipway.runs)",
    "in an exists": "SELECT 1 WHERE EXISTS (SELECT 1 FROM slipway.instance_secrets)",
    "in a join": "SELECT * FROM usage JOIN slipway.runs USING (run_id)",
    "in a union": "SELECT model FROM usage UNION SELECT question FROM slipway.runs",
    "in a lateral": "SELECT * FROM usage, LATERAL (SELECT * FROM slipway.runs) x",
    "in an order by": "SELECT 1 FROM usage ORDER BY (SELECT value FROM slipway.instance_secrets)",
    "in a limit": "SELECT 1 FROM usage LIMIT (SELECT count(*) FROM slipway.runs)",
    "in an array": "SELECT ARRAY(SELECT question FROM slipway.runs)",
    "table command": "TABLE slipway.runs",
    "table command in a subquery": "SELECT * FROM (TABLE slipway.runs) x",
    "only": "SELECT * FROM ONLY slipway.runs",
    # functions
    "sleep": "SELECT pg_sleep(10)",
    "quoted sleep": 'SELECT "pg_sleep"(10)',
    "qualified sleep": "SELECT pg_catalog.pg_sleep(10)",
    "sleep in a filter": "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM usage",
    "sleep in a window": "SELECT sum(1) OVER (ORDER BY pg_sleep(1)) FROM usage",
    "change the tenant": "SELECT set_config('slipway.tenant', 'globex', true), * FROM usage",
    "change the role": "SELECT set_config('role', 'postgres', true)",
    "read a setting": "SELECT current_setting('slipway.tenant')",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "list files": "SELECT * FROM pg_ls_dir('.')",
    "large object": "SELECT lo_import('/etc/passwd')",
    "query as xml": "SELECT query_to_xml('select * from slipway.runs', true, true, '')",
    "table as xml": "SELECT table_to_xml('slipway.runs', true, true, '')",
    "other server": "SELECT * FROM dblink('host=evil', 'select 1') AS t(a int)",
    "end a backend": "SELECT pg_terminate_backend(1)",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "sequence": "SELECT nextval('slipway.ledger_id_seq')",
    "notify": "SELECT pg_notify('slipway', 'x')",
    "function of an allowed schema": "SELECT slipway_data.row_too_large()",
    "function of an allowed schema as a table": "SELECT * FROM slipway_data.row_too_large()",
    "a gigabyte": "SELECT repeat('x', 1000000000)",
    "a gigabyte by recursion": "WITH RECURSIVE n(t) AS (SELECT 'xx' UNION ALL SELECT t || t FROM n) SELECT max(t) FROM n",
    "a gigabyte by replacements": "SELECT replace(replace('xxxx', 'x', 'yyyyyyyy'), 'y', 'zzzzzzzz')",
    "a gigabyte by replacements apart": "SELECT replace(upper(regexp_replace('xxxx', 'x', 'yyyyyyyy', 'g')), 'Y', 'zzzzzzzz')",
    "functions as rows": "SELECT * FROM ROWS FROM (pg_ls_dir('.'))",
    "operator by name": "SELECT 1 OPERATOR(slipway_data.+) 2",
    "a call that sqlglot trips over": "SELECT date_part('', time) FROM usage",
    "an interval that sqlglot drops": "SELECT INTERVAL '' FROM usage",
    "a key that sqlglot drops": "SELECT x -> '' FROM usage",
    # casts, sampling, odd literals
    "look up a name": "SELECT 'slipway.runs'::regclass",
    "look up a role": "SELECT 1::regrole",
    "cast to an own type": "SELECT '1'::slipway_data.usage",
    "tablesample": "SELECT * FROM usage TABLESAMPLE SYSTEM (1)",
    "escape string": "SELECT E'\\x41'",
    "unicode string": "SELECT U&'\\0041'",
    "xml": "SELECT xmlparse(DOCUMENT '<a/>')",
    "positional parameter": "SELECT %s",
    "numbered parameter": "SELECT $1",
}


@pytest.mark.parametrize("sql", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_statement_is_refused(sql: str) -> None:
    with pytest.raises(QueryRefused):
        prepare(sql, SCHEMAS)


def test_refusal_names_what_is_not_allowed() -> None:
    with pytest.raises(QueryRefused, match="pg_sleep"):
        prepare("SELECT pg_sleep(1)", SCHEMAS)
    with pytest.raises(QueryRefused, match="slipway_data, shop"):
        prepare("SELECT * FROM slipway.runs", SCHEMAS)


def test_nesting_that_exhausts_the_stack_is_refused() -> None:
    with pytest.raises(QueryRefused, match="deep"):
        prepare(f"SELECT {'(' * 1_400}1{')' * 1_400}", SCHEMAS)


def test_a_query_beyond_the_length_limit_is_refused() -> None:
    with pytest.raises(QueryRefused, match="characters"):
        prepare(f"SELECT '{'x' * MAX_SQL_CHARS}'", SCHEMAS)


def test_refused_statement_leaves_no_text_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(QueryRefused):
        prepare("CALL very_private()", SCHEMAS)

    assert not caplog.records


def test_comments_do_not_reach_the_database() -> None:
    assert prepare("SELECT 1 /* a */ -- b", SCHEMAS).text == "SELECT 1"


def test_names_are_folded_like_postgresql_folds_them_and_quoted() -> None:
    statement = prepare('SELECT Model, "Odd Name" FROM Usage AS U', SCHEMAS)

    assert statement.text == 'SELECT "model", "Odd Name" FROM "usage" AS "u"'


def test_shown_query_keeps_the_names_of_parameters() -> None:
    statement = prepare("SELECT * FROM usage WHERE model = %(model)s AND day > %(day)s OR model = %(model)s", SCHEMAS)

    assert statement.parameters == ("model", "day")
    assert "%(model)s" in statement.shown
    assert statement.text.count("$1") == 2
    assert "$2" in statement.text


CONTEXTS = [
    "SELECT {} FROM usage", "SELECT x -> {} FROM usage", "SELECT x #>> {} FROM usage", "SELECT INTERVAL {}",
    "SELECT to_char(time, {}) FROM usage", "SELECT time AT TIME ZONE {} FROM usage", "SELECT CAST({} AS date)",
    "SELECT string_agg(model, {}) FROM usage", "SELECT 1 FROM usage WHERE model LIKE {} ESCAPE {}",
    "SELECT trim(BOTH {} FROM model) FROM usage", "SELECT model ~* {} FROM usage", "SELECT 'a' {}", "SELECT DATE {}",
    "SELECT date_trunc({}, time) FROM usage", "SELECT date_part({}, time) FROM usage", "SELECT ARRAY[{}]",
]  # fmt: skip


@given(context=st.sampled_from(CONTEXTS), text=st.text(alphabet="ab'\"\\;-$*/() \n%é", max_size=12))
def test_text_of_a_string_never_becomes_syntax(context: str, text: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    try:
        rebuilt = prepare(context.replace("{}", quoted), SCHEMAS).text
    except QueryRefused:
        return

    harmless = prepare(context.replace("{}", "'day'"), SCHEMAS).text
    assert _shape(rebuilt, text) == _shape(harmless, "day")


def _shape(sql: str, text: str) -> list[str]:
    """Tokens, with "?" for strings and for a `text` that became a unit such as DAY."""
    unit = text.upper() if text.isalpha() else None
    return ["?" if t.token_type is TokenType.STRING or t.text == unit else t.text for t in Postgres().tokenize(sql)]


def test_sqlglot_reads_our_own_rebuilt_text_as_the_same_query() -> None:
    once = prepare("WITH a AS (SELECT model, sum(cost_usd) AS usd FROM usage GROUP BY 1) SELECT * FROM a ORDER BY usd", SCHEMAS)

    assert prepare(once.text, SCHEMAS).text == once.text
