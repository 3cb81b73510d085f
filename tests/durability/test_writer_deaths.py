"""kill -9 at each statement of the writer: nothing that a caller was told of is lost, nothing is there twice."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.postgres import PostgresSaver

from tests.durability.fleet import Fleet, running_fleet, until
from tests.support.fake_script import Script, ToolCall, echo_tokens
from tests.support.replicas import Replica

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTION = "what is a lease?"

MOST_STATEMENTS = 60
"""Of a turn with one call of a tool; a replica outlives its turn when it is to die at a later one."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """One replica that takes over what others leave."""
    folder = tmp_path_factory.mktemp("deaths")
    graph = "tests.durability.deaths:build"
    async with running_fleet(admin_url, folder, 1, AGENT_GRAPH=graph, LEASE_SECONDS="1", MAX_ATTEMPTS="5") as running:
        running.model.script = Script(token_count=5, tool_calls=[ToolCall(name="pay", arguments={"order": "1"})])
        yield running


@dataclass(frozen=True, slots=True)
class Turn:
    told: bool
    """The caller got the run's id before the process died."""
    died: bool


async def ask(fleet: Fleet, folder: Path, at: str) -> Turn:
    """A question to a replica that dies there, unless the turn is over before."""
    replica = Replica({**fleet.replicas[0].env, "DIES_AT": at}, folder / "dying.log")
    await replica.start()
    told = False
    try:
        with contextlib.suppress(httpx.HTTPError):
            told = (await fleet.ask(replica, QUESTION)).status_code == 202

        def is_over() -> bool:
            survives = told and at != "commit"
            return replica.dead or (survives and not fleet.sql("SELECT 1 FROM slipway.runs WHERE status <> 'finished'"))

        await until(is_over)
        return Turn(told, replica.dead)
    finally:
        if not replica.dead:
            await replica.kill()


async def check(fleet: Fleet, turn: Turn) -> None:
    await until(lambda: not fleet.sql("SELECT 1 FROM slipway.runs WHERE status <> 'finished'"))
    runs = fleet.sql("SELECT id, session_id, outcome, answer, attempt FROM slipway.runs")
    assert len(runs) == 1 or (not runs and not turn.told), "a run that its caller was told of is gone"
    for run_id, thread, outcome, answer, attempt in runs:
        assert (outcome, answer) == ("completed", "".join(echo_tokens(QUESTION, 5)))
        assert attempt <= 2
        shown = [text for kind, text in events(fleet, run_id) if kind == "text"]
        assert "".join(shown) == answer
        assert [kind for kind, _ in events(fleet, run_id)].count("end") == 1
        assert [message.type for message in messages(fleet, thread)] == ["human", "ai", "tool", "ai"]
        billed = fleet.sql("SELECT attempt, call, count(*) FROM slipway.ledger GROUP BY 1, 2 HAVING count(*) > 1")
        assert billed == []
    assert len(fleet.effects()) <= 2, "one process died once: a step is repeated once"


def events(fleet: Fleet, run_id: Any) -> list[tuple[str, Any]]:
    """Of the whole log: what a reader is left with, who heeds `reset`."""
    rows = fleet.sql("SELECT events FROM slipway.run_events WHERE run_id = %s ORDER BY attempt, first_seq", run_id)
    found: list[tuple[str, Any]] = []
    for (batch,) in rows:
        for kind, node, payload in batch:
            if kind == "reset" and not node:
                found = [("text", payload["text"])]
            else:
                found.append((kind, payload))
    return found


def messages(fleet: Fleet, thread: str) -> list[BaseMessage]:
    """As LangGraph's own saver reads the state."""
    with PostgresSaver.from_conn_string(fleet.database_url) as saver:
        saved = saver.get_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ""}})
    assert saved
    found: list[BaseMessage] = saved.checkpoint["channel_values"]["messages"]
    return found


def clear(fleet: Fleet) -> None:
    fleet.sql("TRUNCATE slipway.sessions, slipway.runs, slipway.run_events, slipway.ledger CASCADE")
    fleet.sql("TRUNCATE public.checkpoints, public.checkpoint_blobs, public.checkpoint_writes")
    fleet.effects_file.unlink(missing_ok=True)


@pytest.mark.parametrize("at", ["1", "3", "commit"])
async def test_a_process_that_dies_at_a_statement_of_its_writer_loses_and_doubles_nothing(
    fleet: Fleet, tmp_path: Path, at: str
) -> None:
    clear(fleet)
    turn = await ask(fleet, tmp_path, at)
    assert turn.died
    await check(fleet, turn)


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_a_process_that_dies_at_any_statement_of_its_writer_loses_and_doubles_nothing(fleet: Fleet, tmp_path: Path) -> None:
    for number in range(1, MOST_STATEMENTS):
        clear(fleet)
        turn = await ask(fleet, tmp_path, str(number))
        await check(fleet, turn)
        if not turn.died:
            break
    print(f"kill -9 at each of {number - 1} statements of a turn's writer: 0 lost, 0 doubled")  # noqa: T201  # the count is the result
    assert number > 3
