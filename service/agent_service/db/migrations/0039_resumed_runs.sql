-- In place of the constraint, which has two entries of each run, also of one that resumes nothing.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS runs_resumed ON slipway.runs (resumes) WHERE resumes IS NOT NULL;
