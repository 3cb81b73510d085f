CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_going_of_principal ON slipway.runs (tenant, user_id) WHERE status <> 'finished';
