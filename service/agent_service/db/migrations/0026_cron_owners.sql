-- Crons end when their owner has not been here for long.
ALTER TABLE slipway.crons ADD COLUMN owner_seen timestamptz NOT NULL DEFAULT now();  -- to the hour: by a valid credential
