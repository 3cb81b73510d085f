-- A session's id is its owner's: (tenant, user_id, external_id) is the key. `id` is ours, and names LangGraph's thread.
-- NULL: the same as `id`, as with every session of before and each one whose id nobody else had. So older code, which
-- knows `id` alone, reads all of those beside newer code; what it does not know of are ids that two callers share.
ALTER TABLE slipway.sessions ADD COLUMN external_id text;
CREATE UNIQUE INDEX sessions_of_owner ON slipway.sessions (tenant, user_id, (coalesce(external_id, id)));

CREATE OR REPLACE VIEW slipway_data.runs WITH (security_barrier) AS
SELECT r.id AS run_id, coalesce(s.external_id, s.id) AS session_id, r.outcome, r.status, r.route, r.created_at, r.started_at,
       r.finished_at, extract(epoch FROM r.finished_at - r.started_at)::double precision AS seconds,
       length(r.question) AS question_chars
FROM slipway.runs r
JOIN slipway.sessions s ON s.id = r.session_id
WHERE r.tenant = (SELECT slipway_data.tenant()) AND r.user_id = (SELECT slipway_data.user_id());

CREATE OR REPLACE VIEW slipway_data.feedback WITH (security_barrier) AS
SELECT f.run_id, coalesce(s.external_id, s.id) AS session_id, r.route, f.score, f.comment, f.created_at
FROM slipway.feedback f
JOIN slipway.runs r ON r.id = f.run_id
JOIN slipway.sessions s ON s.id = r.session_id
WHERE r.tenant = (SELECT slipway_data.tenant()) AND r.user_id = (SELECT slipway_data.user_id());
