-- What a history shows beside questions and answers, also when the events of its runs are gone.

ALTER TABLE slipway.runs ADD COLUMN sources json;  -- what its tools cited; set when its events are pruned

-- Of a run whose events are there. json: what was cited is shown as it was written. 100 are more than anyone reads.
CREATE FUNCTION slipway.cited(run uuid) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_agg(source) FROM (
        SELECT source FROM slipway.run_events e, json_array_elements(e.events) AS event,
            json_array_elements(CASE WHEN event->>0 = 'tool_end' AND json_typeof(event->2->'sources') = 'array'
                                THEN event->2->'sources' END) AS source
        WHERE e.run_id = run AND strpos(e.events::text, '"sources"') > 0
        ORDER BY e.attempt, e.first_seq LIMIT 100
    ) AS found
$$;
