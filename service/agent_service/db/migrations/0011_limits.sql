-- What one caller may begin: runs in a minute, and runs at a time. Exact across processes, for each start holds the caller's row.

-- Not logged: after a crash of the server the counts begin anew, and nothing is written to the log for them.
CREATE UNLOGGED TABLE slipway.callers (
    tenant  text NOT NULL,
    user_id text NOT NULL,
    minute  timestamptz NOT NULL,                -- the minute that is counted
    recent  integer NOT NULL,                    -- runs begun in it
    earlier integer NOT NULL,                    -- and in the minute before
    PRIMARY KEY (tenant, user_id)
) WITH (fillfactor = 50);

-- How the caller stands, whose row is locked until the transaction ends. The minute before counts in the share of it that lies
-- within the last 60 s (the sliding window of Redis' limiters). NULL as a limit: there is none.
CREATE FUNCTION slipway.standing(
    owner_tenant text, owner_user text, per_minute integer, at_a_time integer,
    OUT refused text,                            -- 'rate' or 'runs'; NULL: one more may begin
    OUT minute timestamptz, OUT recent integer, OUT earlier integer,
    OUT elapsed float8,                          -- seconds of the minute
    OUT going integer                            -- runs that wait or execute
) LANGUAGE plpgsql AS $$
DECLARE
    was slipway.callers;
BEGIN
    LOOP
        SELECT * INTO was FROM slipway.callers c WHERE c.tenant = owner_tenant AND c.user_id = owner_user FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO slipway.callers VALUES (owner_tenant, owner_user, '-infinity', 0, 0) ON CONFLICT DO NOTHING;
    END LOOP;
    minute := date_trunc('minute', clock_timestamp());  -- not now(): it may have waited for the row
    elapsed := extract(epoch FROM clock_timestamp() - minute);
    recent := CASE was.minute WHEN minute THEN was.recent ELSE 0 END;
    earlier := CASE was.minute WHEN minute THEN was.earlier WHEN minute - interval '1 minute' THEN was.recent ELSE 0 END;
    IF at_a_time IS NOT NULL THEN
        SELECT count(*) INTO going FROM slipway.runs r
        WHERE r.tenant = owner_tenant AND r.user_id = owner_user AND r.status <> 'finished';
    END IF;
    refused := CASE WHEN floor(earlier * (60 - elapsed) / 60 + recent) >= per_minute THEN 'rate'
                    WHEN going >= at_a_time THEN 'runs' END;
END
$$;

-- One run begins, of a caller whose row is locked.
CREATE FUNCTION slipway.count_start(owner_tenant text, owner_user text, minute timestamptz, recent integer, earlier integer)
RETURNS void LANGUAGE sql AS $$
    UPDATE slipway.callers c SET minute = count_start.minute, recent = count_start.recent + 1, earlier = count_start.earlier
    WHERE c.tenant = owner_tenant AND c.user_id = owner_user
$$;

-- Both, for a transaction that is rolled back if the run does not begin after all.
CREATE FUNCTION slipway.admit(owner_tenant text, owner_user text, per_minute integer, at_a_time integer)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    s record;
BEGIN
    SELECT * INTO s FROM slipway.standing(owner_tenant, owner_user, per_minute, at_a_time);
    IF s.refused IS NULL THEN
        PERFORM slipway.count_start(owner_tenant, owner_user, s.minute, s.recent, s.earlier);
    END IF;
    RETURN to_jsonb(s);
END
$$;

-- As in 0008, but that the caller's limits come first: their rows are locked before any session's, here and in RunStore. And
-- where the process has no place for the run it waits for one, unless so many wait that RunStore is to look which of them count.
DROP FUNCTION slipway.begin_run(jsonb);
CREATE FUNCTION slipway.begin_run(asked jsonb)
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
            asked->>'request_hash', asked->>'traceparent', CASE WHEN here THEN 'running' ELSE 'queued' END, here::integer,
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
