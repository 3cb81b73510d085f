-- What query_data may read: views that show a principal its own rows, and the role that sees nothing else.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'slipway_data_reader') THEN
        CREATE ROLE slipway_data_reader NOLOGIN;
    END IF;
EXCEPTION
    -- Roles belong to the whole server: the migration of another database may have been first.
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the user % may not create roles; have an administrator run: '
            'CREATE ROLE slipway_data_reader NOLOGIN; GRANT slipway_data_reader TO %; then migrate again',
            quote_ident(current_user), quote_ident(current_user);
END
$$;

DO $$
DECLARE
    -- Since PostgreSQL 16 who creates a role may administer it, but not become it.
    needed text := CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT pg_has_role('slipway_data_reader', needed) THEN
        GRANT slipway_data_reader TO CURRENT_USER;
    END IF;
EXCEPTION
    WHEN unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the user % may not become slipway_data_reader; have an administrator run: '
            'GRANT slipway_data_reader TO %; then migrate again',
            quote_ident(current_user), quote_ident(current_user);
END
$$;

CREATE SCHEMA slipway_data;
GRANT USAGE ON SCHEMA slipway_data TO slipway_data_reader;

CREATE VIEW slipway_data.usage WITH (security_barrier) AS
SELECT (l.created_at AT TIME ZONE 'UTC')::date AS day, l.created_at AS time, l.run_id, l.session_id, l.model, r.route, l.node,
       l.input_tokens, l.cached_tokens, l.output_tokens, l.cost_usd
FROM slipway.ledger l
LEFT JOIN slipway.runs r ON r.id = l.run_id
WHERE l.tenant = current_setting('slipway.tenant', true) AND l.user_id = current_setting('slipway.user_id', true);

CREATE VIEW slipway_data.runs WITH (security_barrier) AS
SELECT id AS run_id, session_id, outcome, status, route, created_at, started_at, finished_at,
       extract(epoch FROM finished_at - started_at)::double precision AS seconds, length(question) AS question_chars
FROM slipway.runs
WHERE tenant = current_setting('slipway.tenant', true) AND user_id = current_setting('slipway.user_id', true);

CREATE VIEW slipway_data.feedback WITH (security_barrier) AS
SELECT f.run_id, r.session_id, r.route, f.score, f.comment, f.created_at
FROM slipway.feedback f
JOIN slipway.runs r ON r.id = f.run_id
WHERE r.tenant = current_setting('slipway.tenant', true) AND r.user_id = current_setting('slipway.user_id', true);

GRANT SELECT ON slipway_data.usage, slipway_data.runs, slipway_data.feedback TO slipway_data_reader;

-- The model reads these descriptions (DataReader.describe).
COMMENT ON VIEW slipway_data.usage IS 'your model calls, one row each: tokens and cost';
COMMENT ON COLUMN slipway_data.usage.day IS 'UTC; today is CURRENT_DATE';
COMMENT ON COLUMN slipway_data.usage.cached_tokens IS 'part of input_tokens';
COMMENT ON COLUMN slipway_data.usage.cost_usd IS 'NULL: the model has no known price';
COMMENT ON VIEW slipway_data.runs IS 'your runs, one row per question: outcome, route and duration';
COMMENT ON COLUMN slipway_data.runs.outcome IS
    'completed, interrupted, iteration_limit, timeout, budget, cancelled or failed; NULL while it runs';
COMMENT ON COLUMN slipway_data.runs.status IS 'queued, running or finished';
COMMENT ON COLUMN slipway_data.runs.seconds IS 'from start to finish';
COMMENT ON VIEW slipway_data.feedback IS 'your feedback on runs, one row per run';
COMMENT ON COLUMN slipway_data.feedback.score IS '1 good, 0 bad';

-- DataReader filters rows by it before they reach the service's memory.
CREATE FUNCTION slipway_data.row_too_large() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'a row of the result is larger than 100 kB: select fewer or shorter columns' USING ERRCODE = 'program_limit_exceeded';
END
$$;
