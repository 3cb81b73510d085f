-- Runs at a schedule, of clients of LangGraph.

CREATE TABLE slipway.crons (
    id           uuid PRIMARY KEY,
    tenant       text NOT NULL,
    user_id      text NOT NULL,
    graph        text NOT NULL,
    thread_id    uuid,                                -- NULL: each run has a thread of its own
    schedule     text NOT NULL,                       -- five fields
    timezone     text,                                -- NULL: UTC
    end_time     timestamptz,
    enabled      boolean NOT NULL,
    keeps        boolean NOT NULL,                    -- the threads of its runs stay
    payload      jsonb NOT NULL,                      -- as its owner gave it
    input        jsonb NOT NULL,                      -- what each run is given
    metadata     jsonb NOT NULL,
    next_run     timestamptz,                         -- NULL: never again
    claimed      timestamptz,                         -- until then another process is at it
    last_run_id  uuid,
    last_error   text,                                -- why the last one was not begun
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX crons_due ON slipway.crons (next_run) WHERE enabled AND next_run IS NOT NULL;

CREATE INDEX crons_of_principal ON slipway.crons (tenant, user_id);
