-- What telemetry keeps beside a run, and how old the keys in use are.

-- W3C trace context (`traceparent`) of the request that started the run: whichever process executes it continues that trace.
ALTER TABLE slipway.runs ADD COLUMN traceparent text;

-- A pod that starts anew sees a new file; only the database knows since when the key in it has been in use.
CREATE TABLE slipway.key_revisions (
    key        text NOT NULL,
    identity   text NOT NULL,                       -- a hash, never the key
    first_seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, identity)
);
