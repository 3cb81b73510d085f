"""A process dies in the middle of a run and another goes on: nothing is lost, said twice or decided twice.

The dead process is a service that writes no more while its leases have run out; afterwards it wakes, and ends cleanly.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from agent_service.metrics import ANSWERS
from agent_service.runs.checkpoints import CURRENT_LIVE, Checkpointer
from tests.service.runs import graphs
from tests.service.runs.conftest import WAIT_SECONDS, Database, Serve, begin, expire_leases, silenced, unfinished, until
from tests.service.runs.graphs import Effects
from tests.support.service import RunningService

OWN_LEASE = "60"
"""Seconds: the first process's leases end by SQL only."""

ADOPTS_AFTER = "0.5"
"""Seconds: the second process looks for dead ones' runs at a fifth of it."""


def saved_in_a_subgraph(database: Database, text: str) -> bool:
    return bool(
        database.rows(
            "SELECT 1 FROM checkpoint_blobs WHERE checkpoint_ns <> '' AND position(%s::bytea in blob) > 0", text.encode()
        )
    )


async def test_a_resume_inside_a_subgraph_keeps_what_it_had_said(serve: Serve, effects: Effects, database: Database) -> None:
    graph = graphs.asks_then_hangs(effects)
    async with serve(graph, LEASE_SECONDS=OWN_LEASE) as dying:
        asked = await begin(dying, question="q")
        await database.finished(asked)
        resumed = await begin(dying, f"/runs/{asked}/resume", value="yes")
        await until(lambda: "second" in effects and saved_in_a_subgraph(database, "the first half"))
        async with silenced(dying), serve(graph, LEASE_SECONDS=ADOPTS_AFTER):
            expire_leases(database)
            run = await database.finished(resumed)

    assert (run["attempt"], run["outcome"]) == (2, "completed")
    assert run["answer"] == "the first half\n\nthe second half"
    assert effects == ["answer=yes", "first", "second", "second"]


async def test_one_answer_answers_one_of_two_interrupts(
    serve: Serve, effects: Effects, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first interrupt is answered, the second is raised and saved; then the process dies before the outcome is stored."""
    graph = graphs.asks_twice(effects)
    async with serve(graph, LEASE_SECONDS=OWN_LEASE) as dying:
        asked = await begin(dying, question="q")
        await database.finished(asked)
        async with unfinished(dying, monkeypatch) as ends:
            resumed = await begin(dying, f"/runs/{asked}/resume", value="yes")
            await until(lambda: ends)
            async with serve(graph, LEASE_SECONDS=ADOPTS_AFTER) as peer:
                expire_leases(database)
                run = await database.finished(resumed)
                assert (run["attempt"], run["outcome"]) == (2, "interrupted")
                assert [item["value"] for item in run["interrupts"]] == ["delete everything?"]
                assert "delete=yes" not in effects
                last = await database.finished(await begin(peer, f"/runs/{resumed}/resume", value="no"))

    assert (last["outcome"], last["answer"]) == ("completed", "yes, no")


async def test_the_text_of_a_node_that_ended_unlogged_is_said_once(serve: Serve, effects: Effects, database: Database) -> None:
    graph = graphs.says_then_hangs(effects)
    async with serve(graph, LEASE_SECONDS=OWN_LEASE) as dying:
        asked = await begin(dying, question="q")
        await until(lambda: "say" in effects)
        async with silenced(dying), serve(graph, LEASE_SECONDS=ADOPTS_AFTER):
            effects.gates["say"].set()
            await until(lambda: "after" in effects)
            expire_leases(database)
            run = await database.finished(asked)

    assert (run["attempt"], run["outcome"], run["answer"]) == (2, "completed", "THE ANSWER")


async def test_a_node_that_ended_is_not_run_again_and_its_text_stays(serve: Serve, effects: Effects, database: Database) -> None:
    graph = graphs.says_then_hangs(effects)
    effects.gates["say"].set()
    async with serve(graph, LEASE_SECONDS=OWN_LEASE) as dying:
        asked = await begin(dying, question="q")
        await until(lambda: database.rows("SELECT 1 FROM checkpoints WHERE metadata->>'step' = '1'"))
        async with silenced(dying), serve(graph, LEASE_SECONDS=ADOPTS_AFTER):
            expire_leases(database)
            run = await database.finished(asked)

    assert (run["attempt"], run["outcome"], run["answer"]) == (2, "completed", "THE ANSWER")
    assert effects == ["say", "after", "after"]


def _is_first_attempt(config: RunnableConfig) -> bool:
    run = config["configurable"][CURRENT_LIVE].run
    return (run.attempt, run.question) == (1, "q")  # and not the rehearsal of a process that starts


async def test_a_subgraphs_answer_is_not_doubled_when_its_parent_never_heard_of_it(
    serve: Serve, effects: Effects, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subgraph's last checkpoint lands; the process dies before the parent's write does."""
    write = Checkpointer.aput_writes

    async def stuck(
        self: Checkpointer, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        first = _is_first_attempt(config)
        if first and "say" in effects and not config["configurable"]["checkpoint_ns"]:
            effects.add("stuck")
            await effects.gates["parent"].wait()
        await write(self, config, writes, task_id, task_path)

    monkeypatch.setattr(Checkpointer, "aput_writes", stuck)
    save = Checkpointer.aput

    async def unsaved(self: Checkpointer, config: RunnableConfig, *args: Any) -> RunnableConfig:
        first = _is_first_attempt(config)
        if first and "stuck" in effects and not config["configurable"]["checkpoint_ns"]:
            await effects.gates["parent"].wait()
        return await save(self, config, *args)

    monkeypatch.setattr(Checkpointer, "aput", unsaved)
    graph = graphs.says_in_a_subgraph(effects)
    async with serve(graph, LEASE_SECONDS=OWN_LEASE) as dying:
        asked = await begin(dying, question="q")
        await until(lambda: "stuck" in effects and saved_in_a_subgraph(database, "THE ANSWER"))
        async with silenced(dying), serve(graph, LEASE_SECONDS=ADOPTS_AFTER):
            expire_leases(database)
            run = await database.finished(asked)
        effects.gates["parent"].set()

    assert (run["attempt"], run["outcome"], run["answer"]) == (2, "completed", "THE ANSWER")
    assert effects.count("say") == 1


MARKS = {"cite": "sourced", "read": "sourced", "refuse": "refused", "plain": "unsourced"}


async def counts(service: RunningService, expected: Mapping[str, float]) -> None:
    """Turns are counted right after their outcome is stored."""
    async with asyncio.timeout(WAIT_SECONDS):
        while {
            kind: count for kind in ANSWERS if (count := await service.metric("agent_answers_total", result=kind))
        } != expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("question", MARKS)
async def test_a_turn_that_was_taken_over_counts_by_what_was_found_before(
    serve: Serve, effects: Effects, database: Database, question: str
) -> None:
    graph = graphs.rated(effects)
    async with serve(graph, LEASE_SECONDS=OWN_LEASE) as dying:
        asked = await begin(dying, question=question)
        await until(lambda: "after" in effects)
        await until(lambda: database.rows("SELECT 1 FROM checkpoints WHERE metadata->>'step' = '1'"))
        async with silenced(dying), serve(graph, LEASE_SECONDS=ADOPTS_AFTER) as peer:
            expire_leases(database)
            await database.finished(asked)
            await counts(peer, {MARKS[question]: 1})


@pytest.mark.parametrize("question", ["cite", "refuse"])
async def test_a_turn_that_a_decision_ended_counts_by_what_was_found_before_it_and_the_next_turn_anew(
    serve: Serve, effects: Effects, database: Database, question: str
) -> None:
    async with serve(graphs.rated(effects, asks=True)) as service:
        for asked, counted in ((question, {MARKS[question]: 1}), ("plain", {MARKS[question]: 1, "unsourced": 1})):
            run_id = await begin(service, question=asked, session_id="s")
            await database.finished(run_id)
            await database.finished(await begin(service, f"/runs/{run_id}/resume", value="yes"))
            await counts(service, counted)
