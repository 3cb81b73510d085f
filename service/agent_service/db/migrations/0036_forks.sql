-- A change of an earlier state by hand, which the session goes on from: a branch without a run (`branch` as that of runs).
-- `created_at` is right behind the newest run that had ended then: whatever begins later goes on from here.
CREATE TABLE slipway.forks (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    session_id text NOT NULL REFERENCES slipway.sessions ON DELETE CASCADE,
    branch     jsonb NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE INDEX forks_of_session ON slipway.forks (session_id);
