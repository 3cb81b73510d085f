-- Sessions, runs, their events, the ledger of model calls, feedback.

CREATE TABLE slipway.sessions (
    id             text PRIMARY KEY,
    tenant         text NOT NULL,
    user_id        text NOT NULL,
    title          text NOT NULL,
    listed         boolean NOT NULL DEFAULT true,   -- false: a stateless call of the OpenAI API
    created_at     timestamptz NOT NULL DEFAULT now(),
    last_active_at timestamptz NOT NULL DEFAULT now(),
    compacted_at   timestamptz                      -- last_active_at when its old checkpoints were pruned; NULL: never
);
CREATE INDEX sessions_of_principal ON slipway.sessions (tenant, user_id, last_active_at DESC) WHERE listed;
CREATE INDEX sessions_by_age ON slipway.sessions (last_active_at);
CREATE INDEX sessions_to_compact ON slipway.sessions (last_active_at, id) WHERE compacted_at IS DISTINCT FROM last_active_at;

-- `attempt` is the fencing token: events, ledger and outcome are written only under the current one.
CREATE TABLE slipway.runs (
    id               uuid PRIMARY KEY,
    session_id       text NOT NULL REFERENCES slipway.sessions ON DELETE CASCADE,
    tenant           text NOT NULL,
    user_id          text NOT NULL,
    resumes          uuid UNIQUE REFERENCES slipway.runs ON DELETE CASCADE,  -- UNIQUE: an interrupt is decided once
    question         text NOT NULL,
    input            jsonb NOT NULL,
    status           text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'finished')),
    outcome          text CHECK (outcome IN ('completed', 'interrupted', 'iteration_limit', 'timeout', 'budget', 'cancelled', 'failed')),
    attempt          integer NOT NULL DEFAULT 0,
    crashes          integer NOT NULL DEFAULT 0,       -- holders that died with it; a hand-over is none
    holder           text,                             -- the process that executes it, while it is running
    lease_expires_at timestamptz,                      -- by the database's clock alone
    cancel_requested boolean NOT NULL DEFAULT false,
    events_pruned    boolean NOT NULL DEFAULT false,
    idempotency_key  text,
    answer           text NOT NULL DEFAULT '',
    route            text,
    interrupts       jsonb,
    error            jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    CHECK ((status = 'finished') = (outcome IS NOT NULL)),
    CHECK ((status = 'running') = (lease_expires_at IS NOT NULL))
);
CREATE UNIQUE INDEX runs_one_running_per_session ON slipway.runs (session_id) WHERE status = 'running';
CREATE INDEX runs_unfinished ON slipway.runs (created_at) WHERE status <> 'finished';
CREATE UNIQUE INDEX runs_idempotency ON slipway.runs (tenant, user_id, idempotency_key);
CREATE INDEX runs_with_events ON slipway.runs (finished_at) WHERE status = 'finished' AND NOT events_pruned;
CREATE INDEX runs_of_session ON slipway.runs (session_id, created_at);

-- Called first in a transaction that writes for a run: it fails unless the run is still at this attempt,
-- and keeps it there until the transaction ends (FOR SHARE makes a claim by another process wait).
CREATE FUNCTION slipway.fence(run uuid, token integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM slipway.runs WHERE id = run AND attempt = token AND status = 'running' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % is no longer at attempt %', run, token USING ERRCODE = 'SW001';
    END IF;
END
$$;

-- One row is a batch of consecutive events: [[kind, node, payload], ...] from first_seq on.
CREATE TABLE slipway.run_events (
    run_id     uuid NOT NULL REFERENCES slipway.runs ON DELETE CASCADE,
    attempt    integer NOT NULL,
    first_seq  integer NOT NULL,
    last_seq   integer NOT NULL,
    events     json NOT NULL,                       -- json, not jsonb: a replay is the same to the byte
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, attempt, first_seq)
);

-- No foreign key: what was spent outlives the session that spent it.
CREATE TABLE slipway.ledger (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        uuid NOT NULL,
    attempt       integer NOT NULL,
    call          integer NOT NULL,                 -- number of the model call within its attempt
    session_id    text NOT NULL,
    tenant        text NOT NULL,
    user_id       text NOT NULL,
    node          text NOT NULL,
    model         text NOT NULL,
    input_tokens  integer NOT NULL,
    cached_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    cost_usd      numeric(14, 8),                   -- NULL: the model is not in the price table
    estimated     boolean NOT NULL,                 -- true: cut off before the endpoint reported usage
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (run_id, attempt, call)                  -- a batch written twice bills once
);
CREATE INDEX ledger_of_principal ON slipway.ledger (tenant, user_id, created_at);

CREATE TABLE slipway.feedback (
    run_id     uuid PRIMARY KEY REFERENCES slipway.runs ON DELETE CASCADE,
    score      smallint NOT NULL CHECK (score IN (0, 1)),
    comment    text,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Signs stream tokens, so that one made by any replica is good at every other.
CREATE TABLE slipway.instance_secrets (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);
INSERT INTO slipway.instance_secrets
VALUES ('stream_token', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
