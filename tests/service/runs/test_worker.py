"""What a process does with the runs it holds, and with those it just gets, when it pauses, cancels or drains."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from agent_service.principal import Principal
from agent_service.runs.run_leases import Claimed, Leases, Queue
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_types import RunInput
from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, begin, expire_leases, silenced, until
from tests.service.runs.graphs import Effects
from tests.support.service import RunningService

Found = tuple[list[Claimed], Queue]

ANN = Principal("default", "ann")
INPUT: RunInput = {"messages": [{"role": "user", "content": "q"}]}


async def test_a_process_does_not_adopt_its_own_run_after_a_pause(
    serve: Serve, effects: Effects, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop was blocked for longer than a lease: the lease has run out, and the process looks for dead ones' runs."""
    claims: list[bool] = []
    claim = Leases.claim

    async def counted(
        self: Leases, places: int, *, adopt: bool, alone: bool, held: Sequence[UUID] = ()
    ) -> tuple[list[Claimed], Queue]:
        found = await claim(self, places, adopt=adopt, alone=alone, held=held)
        claims.append(adopt)
        return found

    monkeypatch.setattr(Leases, "claim", counted)
    async with serve(graphs.gated(effects), LEASE_SECONDS="0.5") as service:
        run_id = await begin(service, question="q")
        await until(lambda: database.rows("SELECT 1 WHERE pg_postmaster_start_time() < now() - interval '0.5 second'"))
        async with silenced(service):
            for _ in range(2):
                claims.clear()
                expire_leases(database)
                await until(lambda: True in claims)
        effects.gates["pay"].set()
        run = await database.finished(run_id)

    assert (run["attempt"], run["crashes"], run["outcome"]) == (1, 0, "completed")
    assert effects == ["pay"]


async def test_a_run_cancelled_before_its_first_step_ends_as_cancelled(
    serve: Serve, effects: Effects, database: Database
) -> None:
    async with serve(graphs.gated(effects)) as service:
        worker, store = service.resources.worker, service.resources.runs._store
        run = await store.start(Asked(uuid4(), ANN, "q", INPUT), "s", here=True, listed=True)
        assert run is not None
        worker.take(run)
        worker.cancel(run.id)
        row = await database.finished(str(run.id))
        await until(lambda: worker.in_flight == 0)

    assert row["outcome"] == "cancelled"
    assert effects == []


async def test_a_drain_stops_between_the_steps_of_a_subgraph(serve: Serve, effects: Effects, database: Database) -> None:
    graph = graphs.two_steps_in_a_subgraph(effects)
    async with serve(graph) as leaving:
        run_id = await begin(leaving, question="q")
        await until(lambda: "one" in effects)
        leaving.resources.worker.stop_taking()
        drain = asyncio.create_task(leaving.resources.worker.hand_over(20))
        await asyncio.sleep(0)  # the drain is requested in its first turn
        effects.gates["one"].set()
        await drain
        assert database.run(run_id)["status"] == "queued"
        assert effects == ["one"]
        async with serve(graph):
            run = await database.finished(run_id)

    assert (run["attempt"], run["crashes"], run["outcome"], run["answer"]) == (2, 0, "completed", "one\n\ntwo")
    assert effects == ["one", "two"]


def queue(service: RunningService, database: Database) -> str:
    """A run that no process has, as a peer without a free place leaves it."""
    database.rows("INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES ('s', 'default', 'ann', 'q')")
    (row,) = database.rows(
        """INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input)
           VALUES (gen_random_uuid(), 's', 'default', 'ann', 'q', '{"messages": [{"role": "user", "content": "q"}]}')
           RETURNING id"""
    )
    service.resources.worker._notices.work.set()
    return str(row["id"])


async def test_a_claim_under_way_when_the_drain_begins_is_waited_for(
    serve: Serve, effects: Effects, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has given the run to this process; the answer is still on its way."""
    claim, given, arrives = Leases.claim, asyncio.Event(), asyncio.Event()

    async def slow(
        self: Leases, places: int, *, adopt: bool, alone: bool, held: Sequence[UUID] = ()
    ) -> tuple[list[Claimed], Queue]:
        found = await claim(self, places, adopt=adopt, alone=alone, held=held)
        if found[0]:
            given.set()
            await arrives.wait()
        return found

    monkeypatch.setattr(Leases, "claim", slow)
    effects.gates["pay"].set()
    async with serve(graphs.gated(effects)) as service:
        run_id = queue(service, database)
        await given.wait()
        worker = service.resources.worker
        worker.stop_taking()
        drain = asyncio.create_task(worker.finish(20))
        done, _ = await asyncio.wait([drain], timeout=0.1)
        assert not done
        arrives.set()
        await drain
        run = database.run(run_id)

    assert (run["status"], run["outcome"], run["answer"]) == ("finished", "completed", "paid")
