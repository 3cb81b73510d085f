-- Assistants of clients of LangGraph: a graph with its caller's own config and context, in versions.

CREATE TABLE slipway.assistants (
    tenant       text NOT NULL,
    user_id      text NOT NULL,
    id           uuid NOT NULL,                       -- its owner may have chosen it: another caller's may be the same
    version      integer NOT NULL,                    -- the one that runs take
    newest       integer NOT NULL,                    -- the highest that there was
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, user_id, id)
);

CREATE TABLE slipway.assistant_versions (
    tenant       text NOT NULL,
    user_id      text NOT NULL,
    id           uuid NOT NULL,
    version      integer NOT NULL,
    graph        text NOT NULL,
    name         text NOT NULL,
    description  text,
    config       jsonb NOT NULL,
    context      jsonb NOT NULL,
    metadata     jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, user_id, id, version),
    FOREIGN KEY (tenant, user_id, id) REFERENCES slipway.assistants ON DELETE CASCADE
);

ALTER TABLE slipway.crons
    ADD COLUMN assistant uuid,                        -- NULL: the graph's own
    ADD FOREIGN KEY (tenant, user_id, assistant) REFERENCES slipway.assistants (tenant, user_id, id) ON DELETE CASCADE;
