-- Of a run that began at an earlier state of its session (a checkpoint): the run that had made it, and what of that run the branch
-- keeps (runs/branches.py). A history shows what the branch knows.
ALTER TABLE slipway.runs ADD COLUMN branch jsonb;
