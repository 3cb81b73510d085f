-- What is due at a run's end happens with it, whichever process ends it: its sources are kept, and what is to be undone is undone.

-- Its caller has cancelled it and wants what it did to its thread's state undone. It is recorded with the cancellation.
ALTER TABLE slipway.runs ADD COLUMN undo boolean NOT NULL DEFAULT false;

-- As in 0022, but in the order in which it was cited, within a row of events, too.
CREATE OR REPLACE FUNCTION slipway.cited(run uuid) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_agg(source) FROM (
        SELECT source FROM slipway.run_events e, json_array_elements(e.events) WITH ORDINALITY AS event (said, nth),
            json_array_elements(CASE WHEN said->>0 = 'tool_end' AND json_typeof(said->2->'sources') = 'array'
                                THEN said->2->'sources' END) WITH ORDINALITY AS cited (source, mth)
        WHERE e.run_id = run AND strpos(e.events::text, '"sources"') > 0
        ORDER BY e.attempt, e.first_seq, event.nth, cited.mth LIMIT 100
    ) AS found
$$;

-- NULL in `sources` from here on: it ended before this migration, and its events tell as long as they are kept.
CREATE FUNCTION slipway.end_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.sources := coalesce(slipway.cited(NEW.id), '[]');
    IF NEW.undo THEN  -- it may have got through before it was stopped
        NEW.outcome := 'cancelled';
        NEW.interrupts := NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER end_run BEFORE UPDATE OF status ON slipway.runs FOR EACH ROW
    WHEN (NEW.status = 'finished' AND OLD.status <> 'finished') EXECUTE FUNCTION slipway.end_run();

-- What these runs did to the state of their thread: checkpoints name the run that made them. Their blobs stay: others may share
-- them, and they go with the thread. runs/undo.py calls it for runs that ended before.
CREATE FUNCTION slipway.delete_states(thread text, of_runs text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM public.checkpoint_writes w USING public.checkpoints c
    WHERE c.thread_id = thread AND c.metadata->>'run_id' = ANY(of_runs) AND w.thread_id = c.thread_id
      AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id;
    DELETE FROM public.checkpoints c WHERE c.thread_id = thread AND c.metadata->>'run_id' = ANY(of_runs);
$$;

-- What it answered waits for its answer again. Its row is hidden, and goes a moment later: its readers are to see it end.
CREATE FUNCTION slipway.undo_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM slipway.delete_states(NEW.session_id, ARRAY[NEW.id::text]);
    IF OLD.status = 'running' AND NEW.resumes IS NOT NULL THEN
        PERFORM slipway.take_back_answer(NEW.session_id);
    END IF;
    UPDATE slipway.runs r SET resumes = NULL, goes_past = false WHERE r.id = NEW.id AND (r.resumes IS NOT NULL OR r.goes_past);
    RETURN NULL;
END
$$;

-- A run that brings an answer writes it, and what the tasks that had asked came to, to the checkpoint at which they had asked.
CREATE FUNCTION slipway.take_back_answer(thread text) RETURNS void LANGUAGE sql AS $$
    WITH head AS (
        SELECT DISTINCT ON (checkpoint_ns) checkpoint_ns, checkpoint_id FROM public.checkpoints
        WHERE thread_id = thread ORDER BY checkpoint_ns, checkpoint_id DESC
    )
    DELETE FROM public.checkpoint_writes w USING head
    WHERE w.thread_id = thread AND w.checkpoint_ns = head.checkpoint_ns AND w.checkpoint_id = head.checkpoint_id
      AND w.channel <> '__interrupt__' AND (w.task_id = '00000000-0000-0000-0000-000000000000' OR EXISTS (
        SELECT 1 FROM public.checkpoint_writes asked
        WHERE asked.thread_id = w.thread_id AND asked.checkpoint_ns = w.checkpoint_ns AND asked.checkpoint_id = w.checkpoint_id
          AND asked.task_id = w.task_id AND asked.channel = '__interrupt__'))
$$;

-- Deferred: behind all else that the transaction writes, and with it committed, so that no other run of the thread begins before.
CREATE CONSTRAINT TRIGGER undo_run AFTER UPDATE OF status ON slipway.runs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.undo AND NEW.status = 'finished' AND OLD.status <> 'finished') EXECUTE FUNCTION slipway.undo_run();
