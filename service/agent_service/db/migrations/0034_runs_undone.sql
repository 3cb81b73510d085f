CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_undone ON slipway.runs (finished_at) WHERE undo;
