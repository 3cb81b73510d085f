-- query_data is confined by the database too: who asks is no setting, and no way leads back to the service's role.

-- A row is never committed: it names who asks to its own transaction, which cannot change it and is rolled back.
CREATE TABLE slipway.data_callers (
    xid     xid8 PRIMARY KEY DEFAULT pg_current_xact_id(),
    tenant  text NOT NULL,
    user_id text NOT NULL
);

CREATE FUNCTION slipway_data.tenant() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text := (SELECT c.tenant FROM slipway.data_callers c WHERE c.xid = pg_current_xact_id_if_assigned());
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'slipway_data shows the rows of who asks, and nobody asks here' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN found;
END
$$;

CREATE FUNCTION slipway_data.user_id() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found text := (SELECT c.user_id FROM slipway.data_callers c WHERE c.xid = pg_current_xact_id_if_assigned());
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'slipway_data shows the rows of who asks, and nobody asks here' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN found;
END
$$;

GRANT EXECUTE ON FUNCTION slipway_data.tenant(), slipway_data.user_id() TO slipway_data_reader;

CREATE OR REPLACE VIEW slipway_data.usage WITH (security_barrier) AS
SELECT (l.created_at AT TIME ZONE 'UTC')::date AS day, l.created_at AS time, l.run_id, l.session_id, l.model, r.route, l.node,
       l.input_tokens, l.cached_tokens, l.output_tokens, l.cost_usd
FROM slipway.ledger l
LEFT JOIN slipway.runs r ON r.id = l.run_id
WHERE l.tenant = (SELECT slipway_data.tenant()) AND l.user_id = (SELECT slipway_data.user_id());

CREATE OR REPLACE VIEW slipway_data.runs WITH (security_barrier) AS
SELECT id AS run_id, session_id, outcome, status, route, created_at, started_at, finished_at,
       extract(epoch FROM finished_at - started_at)::double precision AS seconds, length(question) AS question_chars
FROM slipway.runs
WHERE tenant = (SELECT slipway_data.tenant()) AND user_id = (SELECT slipway_data.user_id());

CREATE OR REPLACE VIEW slipway_data.feedback WITH (security_barrier) AS
SELECT f.run_id, r.session_id, r.route, f.score, f.comment, f.created_at
FROM slipway.feedback f
JOIN slipway.runs r ON r.id = f.run_id
WHERE r.tenant = (SELECT slipway_data.tenant()) AND r.user_id = (SELECT slipway_data.user_id());

-- Runs a query with the rights of its owner, slipway_data_reader. In a function of this kind PostgreSQL lets nobody set the role
-- or the session's user, which a plain SET ROLE does not hold. A cursor takes one statement that returns rows.
-- A line is a row as JSON; `kind` is 'row', 'columns' (a row of NULLs that names them, where there is no row), or 'cut'.
CREATE FUNCTION slipway_data.answer(query text, max_rows integer, max_bytes integer) RETURNS TABLE (kind text, line text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    rows_text text := 'SELECT pg_catalog.row_to_json(slipway_row)::pg_catalog.text AS line FROM (' || query || E'\n) AS slipway_row LIMIT '
                      || max_rows;
    nothing record;
    bytes bigint := 0;
BEGIN
    kind := 'row';
    FOR line IN EXECUTE
        'SELECT CASE WHEN pg_catalog.octet_length(l.line) > 100000 THEN slipway_data.row_too_large()::pg_catalog.text ELSE l.line END FROM ('
        || rows_text || ') AS l'
    LOOP
        bytes := bytes + pg_catalog.octet_length(line);
        IF bytes > max_bytes THEN
            kind := 'cut';
            line := NULL;
            RETURN NEXT;
            RETURN;
        END IF;
        RETURN NEXT;
    END LOOP;
    IF bytes = 0 THEN
        EXECUTE 'SELECT slipway_row.* FROM (SELECT) AS one LEFT JOIN (SELECT * FROM (' || query
                || E'\n) AS asked LIMIT 0) AS slipway_row ON true' INTO nothing;
        kind := 'columns';
        line := pg_catalog.row_to_json(nothing)::pg_catalog.text;
        RETURN NEXT;
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION slipway_data.answer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slipway_data.answer TO CURRENT_USER;
GRANT CREATE ON SCHEMA slipway_data TO slipway_data_reader;   -- which an owner-to-be needs for a moment
ALTER FUNCTION slipway_data.answer OWNER TO slipway_data_reader;
REVOKE CREATE ON SCHEMA slipway_data FROM slipway_data_reader;

-- What any role may call, and a query has no use for: locks, notices, waiting, settings, large objects, queries in a text,
-- and what makes a gigabyte out of a byte. PUBLIC has these by default, and a right of PUBLIC cannot be withheld from one
-- role. So they are taken from all but this user, where it is a superuser and the database holds nothing of others.
DO $$
DECLARE
    denied regprocedure;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ('slipway', 'slipway_data', 'information_schema') AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'p')
          AND NOT (n.nspname = 'public' AND c.relname IN ('checkpoint_migrations', 'checkpoints', 'checkpoint_blobs', 'checkpoint_writes',
                                                          'store_migrations', 'store'))
    ) THEN
        RETURN;
    END IF;
    FOR denied IN
        SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (
            p.proname ~ '^(pg_(try_)?advisory_|lo_|lowrite|loread|pg_sleep|pg_logical_emit_message|(query|table|schema|database|cursor)_to_xml)'
            OR p.proname IN ('set_config', 'pg_notify', 'pg_export_snapshot', 'pg_cancel_backend', 'pg_terminate_backend', 'ts_stat',
                             'repeat', 'lpad', 'rpad', 'array_fill'))
          AND has_function_privilege('slipway_data_reader', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', denied);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO CURRENT_USER', denied);
    END LOOP;
END
$$;
