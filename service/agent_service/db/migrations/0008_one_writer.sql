-- One transaction writes for all runs of a process (runs/writer.py).

-- Until when a process that does not execute the run reads its events: only then is it told of new ones by NOTIFY.
ALTER TABLE slipway.runs ADD COLUMN watched_until timestamptz;

-- First of what a transaction writes for runs: fails unless each is still at its attempt, and keeps them there until the
-- transaction ends (FOR SHARE makes a claim by another process wait). In one order, so that two of them cannot deadlock.
CREATE FUNCTION slipway.fence_all(runs uuid[], tokens integer[])
RETURNS TABLE (id uuid, cancel_requested boolean, watched boolean) LANGUAGE plpgsql AS $$
DECLARE
    held integer := 0;
    run record;
BEGIN
    FOR run IN
        SELECT r.id, r.cancel_requested, coalesce(r.watched_until > now(), false) AS watched FROM slipway.runs r
        JOIN unnest(fence_all.runs, fence_all.tokens) AS mine (id, token) ON mine.id = r.id AND mine.token = r.attempt
        WHERE r.status = 'running' ORDER BY r.id FOR SHARE OF r
    LOOP
        held := held + 1;
        id := run.id;
        cancel_requested := run.cancel_requested;
        watched := run.watched;
        RETURN NEXT;
    END LOOP;
    IF held < cardinality(fence_all.runs) THEN
        RAISE EXCEPTION '% of % runs are no longer at their attempts', cardinality(fence_all.runs) - held, cardinality(fence_all.runs)
            USING ERRCODE = 'SW001';
    END IF;
END
$$;

-- The plain start of a run, at once and here: of a session that is new, or idle after a run that ended as it should.
-- It waits for nobody and refuses nothing, so it may stand in a transaction with others: no row says that the way with
-- all the questions (RunStore) is to be taken.
CREATE FUNCTION slipway.begin_run(asked jsonb)
RETURNS TABLE (thread_id text, fresh boolean, created_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    named text := asked->>'session_id';
    owner_tenant text := asked->>'tenant';
    owner_user text := asked->>'user_id';
BEGIN
    SELECT s.id INTO thread_id FROM slipway.sessions s
    WHERE s.tenant = owner_tenant AND s.user_id = owner_user AND coalesce(s.external_id, s.id) = named
    FOR UPDATE SKIP LOCKED;
    fresh := thread_id IS NULL;
    IF fresh THEN
        -- The caller's id is the thread's too, if nobody has it. Another request may have just begun the session.
        INSERT INTO slipway.sessions (id, external_id, tenant, user_id, title, listed)
        SELECT CASE WHEN taken THEN asked->>'fresh' ELSE named END, CASE WHEN taken THEN named END,
               owner_tenant, owner_user, asked->>'title', (asked->>'listed')::boolean
        FROM (SELECT EXISTS (SELECT 1 FROM slipway.sessions WHERE id = named) AS taken) AS known
        ON CONFLICT DO NOTHING RETURNING id INTO thread_id;
        IF thread_id IS NULL THEN
            RETURN;
        END IF;
    ELSE
        IF EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = begin_run.thread_id AND r.status <> 'finished')
           OR (SELECT r.outcome <> 'completed' FROM slipway.runs r
               WHERE r.session_id = begin_run.thread_id ORDER BY r.created_at DESC LIMIT 1)
           OR EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = begin_run.thread_id AND r.outcome = 'interrupted'
                      AND NOT EXISTS (SELECT 1 FROM slipway.runs later WHERE later.resumes = r.id)) THEN
            RETURN;
        END IF;
        UPDATE slipway.sessions s SET last_active_at = now() WHERE s.id = begin_run.thread_id;
    END IF;
    INSERT INTO slipway.runs AS r (id, session_id, tenant, user_id, question, input, request_hash, traceparent,
                                   status, attempt, holder, lease_expires_at, started_at)
    VALUES ((asked->>'id')::uuid, begin_run.thread_id, owner_tenant, owner_user, asked->>'question', asked->'input',
            asked->>'request_hash', asked->>'traceparent', 'running', 1, asked->>'holder',
            now() + (asked->>'lease')::float8 * interval '1 second', now())
    ON CONFLICT DO NOTHING RETURNING r.created_at INTO created_at;
    IF created_at IS NOT NULL THEN
        RETURN NEXT;
    ELSIF fresh THEN
        DELETE FROM slipway.sessions s WHERE s.id = begin_run.thread_id;
    END IF;
END
$$;
