-- Sessions as threads of LangGraph's clients.

ALTER TABLE slipway.sessions
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN ephemeral boolean NOT NULL DEFAULT false;     -- for one run: pruned after it

CREATE INDEX sessions_ephemeral ON slipway.sessions (last_active_at) WHERE ephemeral;

ALTER TABLE slipway.runs
    ADD COLUMN goes_past boolean NOT NULL DEFAULT false,     -- begins though a decision is waited for, which it leaves behind
    ADD COLUMN not_before timestamptz,                       -- NULL: at once
    ADD COLUMN webhook_due timestamptz,                      -- when to tell of its end; NULL: nobody asked, or all was said
    ADD COLUMN webhook_tries integer NOT NULL DEFAULT 0;

CREATE INDEX runs_to_tell ON slipway.runs (webhook_due) WHERE webhook_due IS NOT NULL;

-- A process of the version before knows no such runs: it is left without them, as in 0014.
CREATE TRIGGER keep_run_of_client BEFORE UPDATE OF attempt ON slipway.runs FOR EACH ROW
    WHEN (NEW.input ? 'wire' AND NEW.status = 'running' AND strpos(NEW.holder, '+@') = 0)
    EXECUTE FUNCTION slipway.keep_to_graph();
