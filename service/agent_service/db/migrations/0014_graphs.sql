-- Several graphs in one process: by which one a run is executed, and whose checkpoints a session's are.

-- Rows from before are of AGENT_GRAPH, whose name is `agent`; so is what a process of the version before inserts.
ALTER TABLE slipway.runs ADD COLUMN graph text NOT NULL DEFAULT 'agent';
ALTER TABLE slipway.sessions ADD COLUMN graph text DEFAULT 'agent';  -- of its first run; NULL: it has had none

-- What some process serves, as each says now and then. A run whose graph is not among them for long is ended.
CREATE TABLE slipway.served_graphs (
    name    text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO slipway.served_graphs (name) VALUES ('agent');

-- A process of the version before knows one graph and would execute any run, or start one in any session, with it: it says
-- so by a holder without a plus. It is left without the row, and told that the session is busy, which a retry elsewhere is not.
CREATE FUNCTION slipway.keep_to_graph() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT 1 FROM slipway.sessions s WHERE s.id = NEW.session_id AND s.graph <> NEW.graph) THEN
        RAISE unique_violation USING CONSTRAINT = 'runs_one_running_per_session',
            MESSAGE = format('session %s is of another graph', NEW.session_id);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_to_graph BEFORE INSERT ON slipway.runs FOR EACH ROW
    WHEN (strpos(NEW.holder, '+@') = 0) EXECUTE FUNCTION slipway.keep_to_graph();
CREATE TRIGGER keep_its_graph BEFORE UPDATE OF attempt ON slipway.runs FOR EACH ROW
    WHEN (NEW.graph <> 'agent' AND NEW.status = 'running' AND strpos(NEW.holder, '+@') = 0)
    EXECUTE FUNCTION slipway.keep_to_graph();

-- As in 0011, and in the session's own graph.
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
        INSERT INTO slipway.sessions (id, external_id, tenant, user_id, title, listed, graph)
        SELECT CASE WHEN taken THEN asked->>'fresh' ELSE named END, CASE WHEN taken THEN named END,
               owner_tenant, owner_user, asked->>'title', (asked->>'listed')::boolean, wanted
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
        UPDATE slipway.sessions s SET last_active_at = now(), graph = wanted WHERE s.id = begin_run.thread_id;
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
