CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_to_tell_by_host ON slipway.runs (slipway.webhook_host(input), webhook_due) WHERE webhook_due IS NOT NULL;
