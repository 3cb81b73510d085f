-- Costs by graph: of a run that was erased the ledger keeps its graph, beside its route (0010). NULL: erased before this.
ALTER TABLE slipway.ledger ADD COLUMN graph text;

CREATE OR REPLACE FUNCTION slipway.keep_routes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slipway.ledger l SET route = gone.route, graph = gone.graph FROM gone WHERE l.run_id = gone.id;
    RETURN NULL;
END
$$;
