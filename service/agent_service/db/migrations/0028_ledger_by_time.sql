-- Of everyone's calls by time. A range per 128 pages: next to nothing to write, and the ledger is in order of time.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ledger_by_time ON slipway.ledger USING brin (created_at);
