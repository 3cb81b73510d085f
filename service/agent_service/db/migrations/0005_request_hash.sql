-- What was asked for under an idempotency key: a retry must ask for the same. NULL: no key, or stored by an older version.
ALTER TABLE slipway.runs ADD COLUMN request_hash text;
