"""A run that its caller took back is undone as it ends, and its row goes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from agent_service.runs import undo
from tests.service.runs.conftest import Database, unfinished, until
from tests.support.service import RunningService, running_service
from tests.support.thread_reader import asking

CHECKPOINTS = "SELECT 1 FROM public.checkpoints WHERE metadata->>'run_id' = %s"


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[RunningService]:
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:gated", MODEL="offline") as running:
        yield running


@pytest.fixture
async def sdk(service: RunningService) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=service.url) as client:
        yield client


async def test_one_that_gets_through_before_it_is_stopped_is_undone_too(
    service: RunningService, sdk: LangGraphClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = (await sdk.threads.create())["thread_id"]
    before: Any = await sdk.runs.wait(thread, "agent", input=asking("first"))
    async with unfinished(service, monkeypatch) as ends:
        run_id = (await sdk.runs.create(thread, "agent", input=asking("second")))["run_id"]
        await until(lambda: ends)
        written = database.rows(CHECKPOINTS, run_id)
        database.rows("UPDATE slipway.runs SET undo = true WHERE id = %s", run_id)  # and the process has not yet heard of it
    await database.finished(run_id)

    assert written
    assert database.run(run_id)["outcome"] == "cancelled"
    assert database.rows(CHECKPOINTS, run_id) == []
    assert (await sdk.threads.get_state(thread))["values"] == before


async def test_an_answer_that_is_taken_back_leaves_the_question_waiting(sdk: LangGraphClient, database: Database) -> None:
    thread = (await sdk.threads.create())["thread_id"]
    await sdk.runs.wait(thread, "agent", input=asking("ask one"))
    before: Any = await sdk.threads.get_state(thread)
    await sdk.runs.wait(thread, "agent", command={"resume": "wrong"})
    run_id = (await sdk.runs.list(thread))[0]["run_id"]
    # As it stands in the transaction that ends it: the same row, which was running.
    database.rows("UPDATE slipway.runs SET status = 'running', outcome = NULL, lease_expires_at = now() + interval '1 hour',"
                  " undo = true WHERE id = %s", run_id)  # fmt: skip
    database.rows(
        "UPDATE slipway.runs SET status = 'finished', outcome = 'completed', lease_expires_at = NULL WHERE id = %s", run_id
    )

    after: Any = await sdk.threads.get_state(thread)
    assert (after["next"], after["interrupts"], after["values"]) == (before["next"], before["interrupts"], before["values"])
    assert (await sdk.threads.get(thread))["status"] == "interrupted"
    assert run_id not in {run["run_id"] for run in await sdk.runs.list(thread)}
    decided: Any = await sdk.runs.wait(thread, "agent", command={"resume": "right"})
    assert decided["note"] == "right"


async def test_rows_that_were_left_behind_go_a_minute_after_their_end(
    service: RunningService, sdk: LangGraphClient, database: Database
) -> None:
    thread = (await sdk.threads.create())["thread_id"]
    for text in ("new", "old", "kept"):
        await sdk.runs.wait(thread, "agent", input=asking(text))
    kept, old, new = [run["run_id"] for run in await sdk.runs.list(thread)]
    database.rows("UPDATE slipway.runs SET undo = true WHERE id <> %s", kept)
    database.rows("UPDATE slipway.runs SET finished_at = now() - interval '2 minutes' WHERE id IN (%s, %s)", old, kept)

    assert await undo.forget_left(service.resources.pool) == {old}
    assert await undo.forget(service.resources.pool, [new, kept]) == {new}
    assert {str(row["id"]) for row in database.rows("SELECT id FROM slipway.runs")} == {kept}
