-- Crons end with their owner's API keys.
ALTER TABLE slipway.crons ADD COLUMN by_key boolean;  -- made, or changed last, by an API key; NULL: before this was kept
