-- Answers to first questions, kept for a while for whoever asks the same (RESPONSE_CACHE_SECONDS).
CREATE TABLE slipway.answers (
    key        bytea PRIMARY KEY,
    maker      uuid NOT NULL REFERENCES slipway.runs ON DELETE CASCADE,  -- an erased session takes its answers along
    answer     text,                             -- NULL: it is being made
    shown      jsonb,                            -- events beside its text: [kind, node, payload]
    route      text,
    expires_at timestamptz
);
CREATE INDEX answers_of_maker ON slipway.answers (maker);

ALTER TABLE slipway.runs ADD COLUMN cached boolean NOT NULL DEFAULT false;  -- its answer is that of another run

-- What a run is to do that begins with a first question. Two at once make one answer: the run that is told `make` has the key
-- while it is executed, in ten seconds after its lease by an heir. Should it wait for a place, one that waits for it makes the
-- answer instead.
CREATE FUNCTION slipway.find_answer(
    wanted bytea, run uuid, thread text,
    OUT state text,                              -- none (not a first question), hit, make, wait (another run makes it)
    OUT answer text, OUT shown jsonb, OUT route text
) LANGUAGE plpgsql AS $$
DECLARE
    a slipway.answers;
BEGIN
    IF EXISTS (SELECT 1 FROM slipway.runs r WHERE r.session_id = thread AND r.id <> run) THEN
        state := 'none';
        RETURN;
    END IF;
    SELECT * INTO a FROM slipway.answers WHERE key = wanted;
    IF NOT FOUND THEN
        INSERT INTO slipway.answers (key, maker) VALUES (wanted, run) ON CONFLICT DO NOTHING;
        state := CASE WHEN FOUND THEN 'make' ELSE 'wait' END;
        RETURN;
    END IF;
    IF a.expires_at > now() THEN
        UPDATE slipway.runs r SET cached = true WHERE r.id = run;
        state := 'hit';
        answer := a.answer;
        shown := a.shown;
        route := a.route;
    ELSIF a.maker = run THEN
        state := 'make';
    ELSIF a.expires_at IS NULL AND EXISTS (
        SELECT 1 FROM slipway.runs r
        WHERE r.id = a.maker AND r.status = 'running' AND r.lease_expires_at > now() - interval '10 seconds') THEN
        state := 'wait';
    ELSE
        UPDATE slipway.answers SET maker = run, answer = NULL, expires_at = NULL WHERE key = wanted AND maker = a.maker;
        state := CASE WHEN FOUND THEN 'make' ELSE 'wait' END;
    END IF;
END
$$;
