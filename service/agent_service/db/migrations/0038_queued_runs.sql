-- Whether a run waits is asked in each commit that ends one. runs_unfinished has an entry of each run that ever began, until a
-- vacuum; this one stays empty while there is room.
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_queued ON slipway.runs (created_at) WHERE status = 'queued';
