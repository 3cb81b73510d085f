-- Embedding calls are in the ledger too, with negative numbers: they reserve nothing, so they settle no reservation. Else as in
-- 0012.
CREATE OR REPLACE FUNCTION slipway.settle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slipway.runs r SET open_calls = greatest(0, r.open_calls - n.count)
    FROM (SELECT run_id, count(*) FROM settled WHERE call > 0 GROUP BY run_id) AS n
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
