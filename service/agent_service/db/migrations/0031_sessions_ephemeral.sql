CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_ephemeral ON slipway.sessions (last_active_at) WHERE ephemeral;
