-- Budgets: what a user may spend in a day, and a tenant in a month (UTC). A model call reserves before it begins, and is settled
-- in the transaction that puts it into the ledger.

CREATE TABLE slipway.budgets (                   -- by `slipway budgets set`; who has no row has the settings' limits
    tenant  text NOT NULL,
    user_id text NOT NULL DEFAULT '',            -- '': the tenant's month
    tokens  bigint CHECK (tokens >= 0),          -- NULL: no limit
    usd     numeric(14, 8) CHECK (usd >= 0),
    PRIMARY KEY (tenant, user_id)
);

CREATE TABLE slipway.spending (
    tenant  text NOT NULL,
    user_id text NOT NULL,                       -- '': the tenant
    period  date NOT NULL,                       -- the day; the first of the tenant's month
    tokens  bigint NOT NULL,
    usd     numeric NOT NULL,                    -- of models with a price
    warned  boolean NOT NULL DEFAULT false,      -- that most of the budget is gone
    PRIMARY KEY (tenant, user_id, period)
) WITH (fillfactor = 80);

-- What other processes write meanwhile waits, and then meets the trigger.
LOCK TABLE slipway.ledger IN SHARE ROW EXCLUSIVE MODE;

-- What has been spent since the period began: whoever sets a budget expects it to count.
INSERT INTO slipway.spending (tenant, user_id, period, tokens, usd)
SELECT tenant, '', date_trunc('month', now() AT TIME ZONE 'UTC'), sum(input_tokens::bigint + output_tokens), coalesce(sum(cost_usd), 0)
FROM slipway.ledger WHERE created_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' GROUP BY tenant
UNION ALL
SELECT tenant, user_id, date_trunc('day', now() AT TIME ZONE 'UTC'), sum(input_tokens::bigint + output_tokens), coalesce(sum(cost_usd), 0)
FROM slipway.ledger WHERE created_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' GROUP BY tenant, user_id;

-- Model calls of a run that have reserved and are not in the ledger, each so much. They count while the run is executed.
ALTER TABLE slipway.runs
    ADD COLUMN open_calls integer NOT NULL DEFAULT 0,
    ADD COLUMN call_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN call_usd numeric(14, 8) NOT NULL DEFAULT 0;

-- A trigger, so that nothing gets into the ledger past it: neither a process of the version before.
CREATE FUNCTION slipway.settle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slipway.runs r SET open_calls = greatest(0, r.open_calls - n.count)
    FROM (SELECT run_id, count(*) FROM settled GROUP BY run_id) AS n
    WHERE r.id = n.run_id AND r.open_calls > 0;
    INSERT INTO slipway.spending AS s (tenant, user_id, period, tokens, usd)
    SELECT * FROM (
        SELECT tenant, '' AS user_id, date_trunc('month', now() AT TIME ZONE 'UTC')::date AS period,
               sum(input_tokens::bigint + output_tokens), coalesce(sum(cost_usd), 0) FROM settled GROUP BY tenant
        UNION ALL
        SELECT tenant, user_id, (now() AT TIME ZONE 'UTC')::date,
               sum(input_tokens::bigint + output_tokens), coalesce(sum(cost_usd), 0) FROM settled GROUP BY tenant, user_id
    ) AS n ORDER BY tenant, user_id              -- in one order, so that no two commits wait for each other
    ON CONFLICT (tenant, user_id, period) DO UPDATE SET tokens = s.tokens + EXCLUDED.tokens, usd = s.usd + EXCLUDED.usd;
    RETURN NULL;
END
$$;
CREATE TRIGGER settle AFTER INSERT ON slipway.ledger
    REFERENCING NEW TABLE AS settled FOR EACH STATEMENT EXECUTE FUNCTION slipway.settle();

-- A model call of a run wants to begin. It may when it fits beside what is spent and what others have reserved; or when no other
-- call is open and anything is left, so that the estimate alone keeps nobody out.
CREATE FUNCTION slipway.reserve(
    run uuid, token integer,
    calls integer,                               -- of the run that are open, with this one
    tokens bigint, usd numeric,                  -- the most that one of them is expected to use
    day_tokens bigint, day_usd numeric,          -- limits of a user without a row in budgets; NULL: none
    month_tokens bigint, month_usd numeric,      -- of a tenant
    warn_at numeric,                             -- share of a budget
    OUT verdict text,                            -- go, wait (others have reserved the rest), spent, lost (the run is not ours)
    OUT budgets jsonb                            -- of each that holds: scope, tokens and usd spent, their limits, whether to warn
) LANGUAGE plpgsql AS $$
DECLARE
    me record;
    b record;
    warns boolean;
BEGIN
    verdict := 'lost';
    budgets := '[]';
    SELECT r.tenant, r.user_id INTO me FROM slipway.runs r WHERE r.id = run AND r.attempt = token AND r.status = 'running';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    verdict := 'go';
    -- One for all of a tenant, whose budget is everyone's. Commits do not ask for it: they wait for the row of spending only.
    PERFORM pg_advisory_xact_lock(hashtextextended('slipway budget of ' || me.tenant, 0));
    FOR b IN
        SELECT usual.scope, usual.of_user, usual.period, l.tokens AS max_tokens, l.usd AS max_usd,
               coalesce(s.tokens, 0) AS tokens, coalesce(s.usd, 0) AS usd, coalesce(s.warned, true) AS warned,
               o.tokens AS other_tokens, o.usd AS other_usd
        FROM (VALUES ('tenant', '', date_trunc('month', now() AT TIME ZONE 'UTC')::date, month_tokens, month_usd),
                     ('user', me.user_id, (now() AT TIME ZONE 'UTC')::date, day_tokens, day_usd))
             AS usual (scope, of_user, period, tokens, usd)
        LEFT JOIN slipway.budgets own ON own.tenant = me.tenant AND own.user_id = usual.of_user
        CROSS JOIN LATERAL (SELECT CASE WHEN own.tenant IS NULL THEN usual.tokens ELSE own.tokens END AS tokens,
                                   CASE WHEN own.tenant IS NULL THEN usual.usd ELSE own.usd END AS usd) AS l
        LEFT JOIN slipway.spending s ON s.tenant = me.tenant AND s.user_id = usual.of_user AND s.period = usual.period
        CROSS JOIN LATERAL (SELECT coalesce(sum(r.open_calls * r.call_tokens), 0) AS tokens,
                                   coalesce(sum(r.open_calls * r.call_usd), 0) AS usd
                            FROM slipway.runs r
                            WHERE r.tenant = me.tenant AND (usual.of_user = '' OR r.user_id = usual.of_user)
                              AND r.status = 'running' AND r.id <> run) AS o
        WHERE l.tokens IS NOT NULL OR l.usd IS NOT NULL
    LOOP
        IF b.tokens >= b.max_tokens OR b.usd >= b.max_usd THEN
            verdict := 'spent';
        ELSIF verdict = 'go' AND (b.other_tokens > 0 OR b.other_usd > 0 OR calls > 1)
              AND (b.tokens + b.other_tokens + calls * reserve.tokens > b.max_tokens
                   OR b.usd + b.other_usd + calls * reserve.usd > b.max_usd) THEN
            verdict := 'wait';
        END IF;
        warns := NOT b.warned AND (b.tokens >= warn_at * b.max_tokens OR b.usd >= warn_at * b.max_usd);
        budgets := budgets || jsonb_build_object('scope', b.scope, 'of_user', b.of_user, 'period', b.period,
            'tokens', b.tokens, 'max_tokens', b.max_tokens, 'usd', b.usd, 'max_usd', b.max_usd, 'warns', coalesce(warns, false),
            'spent', b.tokens >= b.max_tokens OR b.usd >= b.max_usd);
    END LOOP;
    -- The run's row first, then the sums: as a commit does.
    UPDATE slipway.runs r
    SET open_calls = CASE verdict WHEN 'go' THEN calls ELSE calls - 1 END, call_tokens = reserve.tokens, call_usd = reserve.usd
    WHERE r.id = run AND r.attempt = token AND r.status = 'running';
    IF NOT FOUND THEN
        verdict := 'lost';
    END IF;
    UPDATE slipway.spending s SET warned = true
    FROM jsonb_to_recordset(budgets) AS told (of_user text, period date, warns boolean)
    WHERE told.warns AND s.tenant = me.tenant AND s.user_id = told.of_user AND s.period = told.period;
END
$$;
