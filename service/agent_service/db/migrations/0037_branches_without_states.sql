-- A branch of which no state was stored (cancelled in the queue, given up before its first step) has left nothing behind: the session
-- goes on from where it was. Its row keeps where it was to begin, for its question to be asked there again.
CREATE FUNCTION slipway.end_branch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slipway.runs r SET branch = NEW.branch || '{"begun": false}'
    WHERE r.id = NEW.id AND NOT EXISTS (
        SELECT 1 FROM public.checkpoints c
        WHERE c.thread_id = NEW.session_id AND c.checkpoint_ns = '' AND c.metadata->>'run_id' = NEW.id::text);
    RETURN NULL;
END
$$;

-- Deferred: behind the states that are stored with its end.
CREATE CONSTRAINT TRIGGER end_branch AFTER UPDATE OF status ON slipway.runs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.branch IS NOT NULL AND NEW.status = 'finished' AND OLD.status <> 'finished') EXECUTE FUNCTION slipway.end_branch();
