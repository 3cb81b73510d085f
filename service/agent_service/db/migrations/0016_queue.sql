-- Runs that are to wait for a place take turns to be counted: else all that begin at one instant see the same room in the queue.
-- For a transaction that is about to queue a run, before it locks anything else; gives back `value`, as it is called in an
-- argument. Whoever stands still in the middle of its turn keeps others waiting for a second; then they do without.
CREATE FUNCTION slipway.in_turn(queues boolean, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    usual text := current_setting('lock_timeout');
BEGIN
    IF queues THEN
        PERFORM set_config('lock_timeout', '1s', true);
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('slipway queue', 0));
        EXCEPTION WHEN lock_not_available THEN
            NULL;
        END;
        PERFORM set_config('lock_timeout', usual, true);
    END IF;
    RETURN value;
END
$$;
