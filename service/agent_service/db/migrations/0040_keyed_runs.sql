-- Likewise of runs_idempotency: most runs have no key.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS runs_keyed ON slipway.runs (tenant, user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
