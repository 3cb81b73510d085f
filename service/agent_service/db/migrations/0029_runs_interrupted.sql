-- Asked for with each claim; without it all runs that are stored would be read.
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_interrupted ON slipway.runs (session_id) WHERE outcome = 'interrupted';
