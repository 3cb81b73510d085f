-- Costs are reported long after a session was erased: the ledger then keeps the route that its run has taken.
ALTER TABLE slipway.ledger ADD COLUMN route text;

CREATE FUNCTION slipway.keep_routes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slipway.ledger l SET route = gone.route FROM gone WHERE l.run_id = gone.id AND gone.route IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER keep_routes AFTER DELETE ON slipway.runs REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION slipway.keep_routes();
