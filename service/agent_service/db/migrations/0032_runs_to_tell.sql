CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_to_tell ON slipway.runs (webhook_due) WHERE webhook_due IS NOT NULL;
