"""An Idempotency-Key stands for one call: used for another one, it is refused."""

from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, begin
from tests.service.runs.graphs import Effects
from tests.support.problems import check_problem

KEY = {"Idempotency-Key": "k"}


async def test_a_questions_key_does_not_stand_for_a_decision(serve: Serve, effects: Effects, database: Database) -> None:
    async with serve(graphs.asks_twice(effects)) as service, service.client(headers=KEY) as client:
        asked = await begin(service, question="q")
        await database.finished(asked)
        other = (await client.post("/chat", json={"question": "other"})).json()

        refused = await client.post(f"/runs/{asked}/resume", json={"value": "yes"})

        check_problem(refused, 422, "idempotency_conflict", field="Idempotency-Key")
        assert effects == []
        assert (await client.post("/chat", json={"question": "other"})).json()["run_id"] == other["run_id"]
        assert database.rows("SELECT count(*) FROM slipway.runs") == [{"count": 2}]


async def test_a_decisions_key_does_not_stand_for_another_decision(serve: Serve, effects: Effects, database: Database) -> None:
    async with serve(graphs.asks_twice(effects)) as service, service.client(headers=KEY) as client:
        asked = await begin(service, question="q")
        await database.finished(asked)
        resumed = (await client.post(f"/runs/{asked}/resume", json={"value": "yes"})).json()

        refused = await client.post(f"/runs/{resumed['run_id']}/resume", json={"value": "yes"})

        check_problem(refused, 422, "idempotency_conflict", field="Idempotency-Key")
        assert "delete=yes" not in effects
