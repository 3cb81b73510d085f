"""One odd value in one run stops neither the log nor any other run."""

import asyncio
import math
from typing import Any
from uuid import uuid4

from agent_service.db.pool import Pool
from agent_service.principal import Principal
from agent_service.runs.event_log import EventLog
from agent_service.runs.events import MAX_JSON_DEPTH, START, Event
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.run_types import Ending
from agent_service.runs.writer import Writer
from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, begin


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


def depth(value: Any) -> int:
    return 1 + depth(value[0]) if isinstance(value, list) else 0


ODD = {
    "huge": (10**30, str(10**30)),
    "largest": (2**63 - 1, 2**63 - 1),
    "nan": (math.nan, "nan"),
    "infinite": (-math.inf, "-inf"),
    "half": ("nul \0 and half \ud83d", "nul \ufffd and half ?"),
    "innocent": (1, 1),
}
"""By question: an argument, and what the log may hold of it."""


async def test_odd_tool_arguments_are_logged_as_text(serve: Serve, database: Database) -> None:
    async with serve(graphs.calls_a_tool_with({name: argument for name, (argument, _) in ODD.items()})) as service:
        runs = {name: await begin(service, question=name) for name in ODD}
        answers = {name: (await database.finished(run))["answer"] for name, run in runs.items()}

    assert answers == {name: f"took it: {name}" for name in ODD}
    logged = {name: [call["args"]["thing"] for call in database.payloads(run, "tool_start")] for name, run in runs.items()}
    assert logged == {name: [as_logged] for name, (_, as_logged) in ODD.items()}


async def test_a_deeply_nested_tool_argument_is_logged_to_a_depth(serve: Serve, database: Database) -> None:
    async with serve(graphs.calls_a_tool_with({"odd": nested(300), "innocent": 1})) as service:
        odd, innocent = await begin(service, question="odd"), await begin(service, question="innocent")
        answers = [(await database.finished(run))["answer"] for run in (odd, innocent)]

    assert answers == ["took it: odd", "took it: innocent"]
    (call,) = database.payloads(odd, "tool_start")
    assert 0 < depth(call["args"]["thing"]) <= MAX_JSON_DEPTH


async def test_a_nul_in_an_interrupt_value_is_replaced(serve: Serve, database: Database) -> None:
    async with serve(graphs.interrupts_with({"cmd": "rm \0 x"})) as service:
        odd, innocent = await begin(service, question="odd"), await begin(service, question="innocent")
        asked, done = await database.finished(odd), await database.finished(innocent)

    assert (asked["outcome"], [item["value"] for item in asked["interrupts"]]) == ("interrupted", [{"cmd": "rm \ufffd x"}])
    assert (done["outcome"], done["answer"]) == ("completed", "done: innocent")


async def test_what_json_cannot_hold_in_the_state_fails_no_run(serve: Serve, database: Database) -> None:
    """LangGraph writes short strings of the state as JSON, which takes no half surrogate pair and no NUL."""
    async with serve(graphs.routes_to({"half": "A\udc80B", "nul": "A\0B", "innocent": "AB"})) as service:
        runs = [await begin(service, question=name) for name in ("half", "nul", "innocent")]
        done = [await database.finished(run) for run in runs]

    assert [run["outcome"] for run in done] == ["completed"] * 3
    assert (done[2]["answer"], done[2]["route"]) == ("done: innocent", "AB")


async def add(live: LiveRuns, store: RunStore) -> LiveRun:
    owner = Principal("default", "ann")
    run = await store.start(Asked(uuid4(), owner, "?", {}), f"s{len(live)}", here=True, listed=True)
    assert run is not None
    return live.add(run)


async def test_a_batch_that_is_refused_is_written_run_by_run(pool: Pool, database: Database) -> None:
    live_runs, log = LiveRuns(), EventLog(pool)
    writer = Writer(pool, live_runs, holder="here", lease_seconds=60)
    store = RunStore(pool, writer, holder="here", lease_seconds=60, limits=QueueLimits(10, 10, 10), on_busy="reject")
    odd, innocent = await add(live_runs, store), await add(live_runs, store)
    odd.said.publish_text("lost", "node")
    odd.said.events.append(Event(1, 2, "node", "node", {"n": 10**30}))  # past `publish`, which would have made it storable
    innocent.said.publish_text("kept", "node")

    ends = [
        asyncio.create_task(writer.finish(odd, Ending("completed"))),
        asyncio.create_task(writer.finish(innocent, Ending("completed"))),
    ]
    await asyncio.sleep(0)  # both hand their endings in
    await writer.commit()
    await writer.commit()

    assert await asyncio.gather(*ends) == [True, True]
    refused, kept = database.run(str(odd.run.id)), database.run(str(innocent.run.id))
    assert (refused["outcome"], refused["answer"], refused["error"]["code"]) == ("failed", "", "internal")
    assert (kept["outcome"], kept["answer"]) == ("completed", "kept")
    assert [(e.seq, e.payload) for e in (await log.read(odd.run.id, START))[0]] == [(1, ""), (2, {})]
    assert [e.payload for e in (await log.read(innocent.run.id, START))[0]] == ["kept"]
