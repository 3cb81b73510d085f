-- A commit finds all its rows by their keys, also where PostgreSQL knows nothing of the tables yet: the plans of a session that began
-- on empty tables read all runs in each commit until the tables were analyzed, and PostgreSQL's CPU of a turn grew by two thirds
-- within 5,000 turns. By key there is one plan for each of its statements, so that it is kept: PostgreSQL planned anew in each commit,
-- a fifth of what it takes. `= ANY (…)` and not a join by id alone: of a table that was analyzed with a few rows PostgreSQL would read
-- the whole key instead.

ALTER TABLE slipway.runs DROP CONSTRAINT runs_resumes_key;
ALTER INDEX slipway.runs_resumed RENAME TO runs_resumes_key;  -- as its violation is known by
DROP INDEX slipway.runs_idempotency;
ALTER INDEX slipway.runs_keyed RENAME TO runs_idempotency;

-- Without `status` among the conditions: the index of all that run would do for it, and be read for each run that is fenced.
CREATE OR REPLACE FUNCTION slipway.fence_all(runs uuid[], tokens integer[])
RETURNS TABLE (id uuid, cancel_requested boolean, watched boolean) LANGUAGE plpgsql AS $$
DECLARE
    held integer := 0;
    run record;
BEGIN
    FOR run IN
        SELECT r.id, r.status, r.cancel_requested, coalesce(r.watched_until > now(), false) AS watched FROM slipway.runs r
        WHERE r.id = ANY (fence_all.runs) AND r.attempt = fence_all.tokens[array_position(fence_all.runs, r.id)]
        ORDER BY r.id FOR SHARE OF r
    LOOP
        CONTINUE WHEN run.status <> 'running';
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

CREATE OR REPLACE FUNCTION slipway.settle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slipway.runs r SET open_calls = greatest(0, r.open_calls - n.count)
    FROM (SELECT run_id, count(*) FROM settled WHERE call > 0 GROUP BY run_id) AS n
    WHERE r.id = n.run_id AND r.id = ANY (ARRAY(SELECT run_id FROM settled WHERE call > 0)) AND r.open_calls > 0;
    INSERT INTO slipway.spending AS s (tenant, user_id, period, tokens, usd)
    SELECT * FROM (
        SELECT tenant, '' AS user_id, date_trunc('month', now() AT TIME ZONE 'UTC')::date AS period,
               sum(input_tokens::bigint + output_tokens), coalesce(sum(cost_usd), 0) FROM settled GROUP BY tenant
        UNION ALL
        SELECT tenant, user_id, (now() AT TIME ZONE 'UTC')::date,
               sum(input_tokens::bigint + output_tokens), coalesce(sum(cost_usd), 0) FROM settled GROUP BY tenant, user_id
    ) AS n ORDER BY tenant, user_id              -- in one order, so that no two commits wait for each other
    ON CONFLICT (tenant, user_id, period) DO UPDATE SET tokens = s.tokens + EXCLUDED.tokens, usd = s.usd + EXCLUDED.usd;
    RETURN NULL;
END
$$;

-- Who ends a run may say `sources` itself: to look for them in its events is a tenth of what a turn costs the database.
CREATE OR REPLACE FUNCTION slipway.end_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.sources := coalesce(NEW.sources, slipway.cited(NEW.id), '[]');
    IF NEW.undo THEN  -- it may have got through before it was stopped
        NEW.outcome := 'cancelled';
        NEW.interrupts := NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION slipway.write_all(
    starts jsonb[],                              -- as slipway.begin_run takes them, in the order of their sessions
    runs uuid[], tokens integer[],               -- to be fenced: all that follows is theirs
    lease float8,                                -- seconds from now; NULL leaves their leases as they are
    survivors uuid[],                            -- whose crashes are forgiven
    blob_thread text[], blob_ns text[], blob_channel text[], blob_version text[], blob_type text[], blob_value bytea[],
    point_thread text[], point_ns text[], point_id text[], point_parent text[], point_body jsonb[], point_metadata jsonb[],
    write_thread text[], write_ns text[], write_point text[], write_task text[], write_idx integer[], write_path text[],
    write_channel text[], write_type text[], write_value bytea[],
    write_is_mark boolean[],                     -- of an interrupt, its answer, an error: the last one counts, else the first
    event_run uuid[], event_attempt integer[], event_first integer[], event_last integer[], event_batch text[],
    calls jsonb, endings jsonb,
    handed_over uuid[],
    idle text,                                   -- milliseconds, where a pooler has put this into a transaction of its own
    OUT begun jsonb,                             -- for each start an object, or null: the plain way is not open
    OUT news jsonb,                              -- the fenced runs that are to stop, or that somebody watches elsewhere
    OUT work boolean                             -- a run waits for a process with a free place
) LANGUAGE plpgsql
    SET plan_cache_mode TO force_generic_plan
    SET enable_seqscan TO off SET enable_hashjoin TO off SET enable_mergejoin TO off AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', idle, true);
    IF starts IS NOT NULL THEN
        SELECT jsonb_agg(CASE WHEN b.thread_id IS NOT NULL THEN to_jsonb(b) END ORDER BY s.number) INTO begun
        FROM unnest(starts) WITH ORDINALITY AS s (asked, number) LEFT JOIN LATERAL slipway.begin_run(s.asked) AS b ON true;
    END IF;
    IF runs IS NOT NULL THEN
        SELECT jsonb_agg(to_jsonb(f)) FILTER (WHERE f.cancel_requested OR f.watched) INTO news
        FROM slipway.fence_all(runs, tokens) AS f;
    END IF;
    IF lease IS NOT NULL THEN
        UPDATE slipway.runs r SET lease_expires_at = now() + lease * interval '1 second' WHERE r.id = ANY (runs);
    END IF;
    IF survivors IS NOT NULL THEN
        UPDATE slipway.runs r SET crashes = 0 WHERE r.id = ANY (survivors);
    END IF;
    IF blob_thread IS NOT NULL THEN
        INSERT INTO public.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        SELECT b.thread_id, b.ns, b.channel, b.version, b.type, CASE WHEN b.type <> 'empty' THEN b.value END
        FROM unnest(blob_thread, blob_ns, blob_channel, blob_version, blob_type, blob_value)
             AS b (thread_id, ns, channel, version, type, value)
        ON CONFLICT DO NOTHING;
    END IF;
    IF point_thread IS NOT NULL THEN
        INSERT INTO public.checkpoints AS c (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT * FROM unnest(point_thread, point_ns, point_id, point_parent, point_body, point_metadata)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
        DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata;
    END IF;
    IF write_thread IS NOT NULL THEN
        INSERT INTO public.checkpoint_writes AS w
            (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, type, blob)
        SELECT n.thread_id, n.ns, n.point, n.task, n.idx, n.path, n.channel, n.type, n.value
        FROM unnest(write_thread, write_ns, write_point, write_task, write_idx, write_path, write_channel, write_type, write_value,
                    write_is_mark) AS n (thread_id, ns, point, task, idx, path, channel, type, value, is_mark)
        WHERE NOT n.is_mark
        ON CONFLICT DO NOTHING;
        IF true = ANY (write_is_mark) THEN
            INSERT INTO public.checkpoint_writes AS w
                (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, type, blob)
            SELECT n.thread_id, n.ns, n.point, n.task, n.idx, n.path, n.channel, n.type, n.value
            FROM unnest(write_thread, write_ns, write_point, write_task, write_idx, write_path, write_channel, write_type,
                        write_value, write_is_mark) AS n (thread_id, ns, point, task, idx, path, channel, type, value, is_mark)
            WHERE n.is_mark
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
            DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob;
        END IF;
    END IF;
    IF event_run IS NOT NULL THEN
        -- A commit whose answer was lost is written again, by now perhaps with more events.
        INSERT INTO slipway.run_events AS e (run_id, attempt, first_seq, last_seq, events)
        SELECT n.run_id, n.attempt, n.first_seq, n.last_seq, n.batch::json
        FROM unnest(event_run, event_attempt, event_first, event_last, event_batch)
             AS n (run_id, attempt, first_seq, last_seq, batch)
        ON CONFLICT (run_id, attempt, first_seq) DO UPDATE SET last_seq = EXCLUDED.last_seq, events = EXCLUDED.events
        WHERE e.last_seq < EXCLUDED.last_seq;
    END IF;
    IF calls IS NOT NULL THEN
        INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model,
                                    input_tokens, cached_tokens, output_tokens, cost_usd, estimated)
        SELECT c.run_id, c.attempt, c.call, c.session_id, c.tenant, c.user_id, c.node, c.model,
               c.input_tokens, c.cached_tokens, c.output_tokens, c.cost_usd, c.estimated
        FROM jsonb_to_recordset(calls) AS c (run_id uuid, attempt int, call int, session_id text, tenant text, user_id text,
             node text, model text, input_tokens int, cached_tokens int, output_tokens int, cost_usd numeric, estimated boolean)
        ON CONFLICT DO NOTHING;
    END IF;
    IF endings IS NOT NULL THEN
        UPDATE slipway.runs r
        SET status = 'finished', lease_expires_at = NULL, outcome = e.outcome, answer = e.answer, route = e.route,
            interrupts = e.interrupts, error = e.error, finished_at = now(), sources = CASE WHEN NOT e.may_cite THEN '[]'::json END
        FROM jsonb_to_recordset(endings)
             AS e (id uuid, outcome text, answer text, route text, interrupts jsonb, error jsonb, may_cite boolean)
        WHERE r.id = e.id AND r.id = ANY (runs);
    END IF;
    IF handed_over IS NOT NULL THEN
        UPDATE slipway.runs r SET status = 'queued', lease_expires_at = NULL WHERE r.id = ANY (handed_over);
    END IF;
    work := (endings IS NOT NULL OR handed_over IS NOT NULL)
            AND EXISTS (SELECT 1 FROM slipway.runs r WHERE r.status = 'queued');
END
$$;
