-- Sessions as threads of LangGraph's clients.

ALTER TABLE slipway.sessions
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN ephemeral boolean NOT NULL DEFAULT false;     -- for one run: pruned after it

ALTER TABLE slipway.runs
    ADD COLUMN goes_past boolean NOT NULL DEFAULT false,     -- begins though a decision is waited for, which it leaves behind
    ADD COLUMN not_before timestamptz,                       -- NULL: at once
    ADD COLUMN webhook_due timestamptz,                      -- when to tell of its end; NULL: nobody asked, or all was said
    ADD COLUMN webhook_tries integer NOT NULL DEFAULT 0;

-- A process of the version before knows no such runs: it is left without them, as in 0014.
CREATE TRIGGER keep_run_of_client BEFORE UPDATE OF attempt ON slipway.runs FOR EACH ROW
    WHEN (NEW.input ? 'wire' AND NEW.status = 'running' AND strpos(NEW.holder, '+@') = 0)
    EXECUTE FUNCTION slipway.keep_to_graph();

-- As in 0014, and of a client of LangGraph: what its thread is to be called by.
CREATE OR REPLACE FUNCTION slipway.begin_run(asked jsonb)
RETURNS TABLE (
    thread_id text,                              -- '' when the caller is refused
    fresh boolean, created_at timestamptz,
    standing jsonb                               -- NULL: no limits
) LANGUAGE plpgsql AS $$
DECLARE
    named text := asked->>'session_id';
    owner_tenant text := asked->>'tenant';
    owner_user text := asked->>'user_id';
    here boolean := coalesce((asked->>'here')::boolean, true);
    wanted text := coalesce(asked->>'graph', 'agent');
    whose text;
    caller record;
BEGIN
    IF asked->>'per_minute' IS NOT NULL OR asked->>'at_a_time' IS NOT NULL THEN
        SELECT * INTO caller FROM slipway.standing(
            owner_tenant, owner_user, (asked->>'per_minute')::integer, (asked->>'at_a_time')::integer);
        standing := to_jsonb(caller);
        IF caller.refused IS NOT NULL THEN
            thread_id := '';
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF NOT here AND ((SELECT count(*) FROM slipway.runs r WHERE r.status = 'queued') >= (asked->>'max_queued')::bigint
        OR (SELECT count(*) FROM slipway.runs r WHERE r.tenant = owner_tenant AND r.user_id = owner_user AND r.status = 'queued')
           >= (asked->>'of_principal')::bigint) THEN
        RETURN;
    END IF;
    SELECT s.id, s.graph INTO thread_id, whose FROM slipway.sessions s
    WHERE s.tenant = owner_tenant AND s.user_id = owner_user AND coalesce(s.external_id, s.id) = named
    FOR UPDATE SKIP LOCKED;
    fresh := thread_id IS NULL;
    IF fresh THEN
        -- The caller's id is the thread's too, if nobody has it. Another request may have just begun the session.
        INSERT INTO slipway.sessions (id, external_id, tenant, user_id, title, listed, graph, metadata,
                                      ephemeral)
        SELECT CASE WHEN taken THEN asked->>'fresh' ELSE named END, CASE WHEN taken THEN named END,
               owner_tenant, owner_user, asked->>'title', (asked->>'listed')::boolean, wanted, coalesce(nullif(asked->'metadata', 'null'), '{}'),
               coalesce((asked->>'ephemeral')::boolean, false)
        FROM (SELECT EXISTS (SELECT 1 FROM slipway.sessions WHERE id = named) AS taken) AS known
        ON CONFLICT DO NOTHING RETURNING id INTO thread_id;
        IF thread_id IS NULL THEN
            RETURN;
        END IF;
    ELSE
        IF whose <> wanted
           OR EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = begin_run.thread_id AND r.status <> 'finished')
           OR (SELECT r.outcome <> 'completed' FROM slipway.runs r
               WHERE r.session_id = begin_run.thread_id ORDER BY r.created_at DESC LIMIT 1)
           OR EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = begin_run.thread_id AND r.outcome = 'interrupted'
                      AND NOT EXISTS (SELECT 1 FROM slipway.runs later WHERE later.resumes = r.id)) THEN
            RETURN;
        END IF;
        UPDATE slipway.sessions s SET last_active_at = now(), graph = wanted, metadata = s.metadata || coalesce(nullif(asked->'metadata', 'null'), '{}'),
            title = CASE s.title WHEN '' THEN asked->>'title' ELSE s.title END
        WHERE s.id = begin_run.thread_id;
    END IF;
    INSERT INTO slipway.runs AS r (id, session_id, tenant, user_id, question, input, request_hash, traceparent,
                                   graph, status, attempt, holder, lease_expires_at, started_at)
    VALUES ((asked->>'id')::uuid, begin_run.thread_id, owner_tenant, owner_user, asked->>'question', asked->'input',
            asked->>'request_hash', asked->>'traceparent', wanted, CASE WHEN here THEN 'running' ELSE 'queued' END, here::integer,
            asked->>'holder', CASE WHEN here THEN now() + (asked->>'lease')::float8 * interval '1 second' END,
            CASE WHEN here THEN now() END)
    ON CONFLICT DO NOTHING RETURNING r.created_at INTO created_at;
    IF created_at IS NOT NULL THEN
        IF standing IS NOT NULL THEN
            PERFORM slipway.count_start(owner_tenant, owner_user, caller.minute, caller.recent, caller.earlier);
        END IF;
        RETURN NEXT;
    ELSIF fresh THEN
        DELETE FROM slipway.sessions s WHERE s.id = begin_run.thread_id;
    END IF;
END
$$;
