import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from agent_service.db.pool import Pool, make_pool
from agent_service.runs.compaction import CompactingSaver
from agent_service.runs.prune import Pruned, Retention, prunable, prune, prune_forever
from tests.support import sse
from tests.support.service import RunningService, running_service
from tests.support.warm import slipway

KEEP_ALL = Retention(event_hours=1e6, session_days=0)
EVENTS_GONE = Retention(event_hours=1e-9, session_days=0)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, size=4, timeout=5) as opened:
        yield opened


class State(MessagesState):
    """Messages only."""


async def _decide(_: State) -> dict[str, Any]:
    return {"messages": [AIMessage(f"decided {interrupt('which?')}")]}


async def _step(_: State) -> dict[str, Any]:
    return {"messages": [AIMessage("a step")]}


def deciding(_: Any) -> Any:
    """Two steps, a question to a person, one more step."""
    graph: Any = StateGraph(State)
    graph.add_node("one", _step).add_node("two", _step).add_node("decide", _decide).add_node("last", _step)
    return graph.add_edge(START, "one").add_edge("one", "two").add_edge("two", "decide").add_edge("decide", "last")


def _joined(items: list[str], writes: list[list[str]]) -> list[str]:
    return items + [item for write in writes for item in write]


class DeltaState(TypedDict):
    items: Annotated[list[str], DeltaChannel(_joined)]


async def checkpoints(pool: Pool, thread: str) -> int:
    async with pool.connection() as conn:
        row = await (await conn.execute("SELECT count(*) AS n FROM checkpoints WHERE thread_id = %s", (thread,))).fetchone()
    return int(row["n"]) if row else 0


async def ask(client: httpx.AsyncClient, question: str, session: str) -> dict[str, Any]:
    response = await client.post("/chat", json={"question": question, "session_id": session})
    response.raise_for_status()
    run: dict[str, Any] = response.json()
    return run


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[RunningService]:
    async with running_service(database_url) as running:
        yield running


async def test_expired_events_go_and_a_new_reader_gets_gap_and_the_answer_as_text(service: RunningService, pool: Pool) -> None:
    async with service.client() as client:
        run = await ask(client, "What is a lease?", "s1")
        full = await sse.read(client, "GET", f"/runs/{run['run_id']}/stream")

        done = await prune(pool, EVENTS_GONE)
        again = await sse.read(client, "GET", f"/runs/{run['run_id']}/stream")

    assert done is not None
    assert (done.runs, done.event_rows > 0) == (1, True)
    assert [e.event for e in again.events] == ["gap", "run", "message", "usage", "message"]
    assert again.text == full.text == run["answer"]
    assert again.done
    assert again.named("usage")[0] == {"outcome": "completed", **run["usage"], "cost_usd": run["cost_usd"]}
    assert min(again.ids) > max(full.ids)


async def test_a_reader_with_half_an_answer_gets_gap_and_reset_and_at_the_end_204(service: RunningService, pool: Pool) -> None:
    async with service.client() as client:
        run = await ask(client, "What is a lease?", "s1")
        full = await sse.read(client, "GET", f"/runs/{run['run_id']}/stream")
        half = next(e.id for e in full.events if e.event == "message")
        await prune(pool, EVENTS_GONE)

        path = f"/runs/{run['run_id']}/stream"
        rest = await sse.read(client, "GET", path, headers={"Last-Event-ID": half})
        end = await client.get(path, headers={"Last-Event-ID": rest.events[-1].id})
        gaps = await service.metric("agent_stream_resumes_total", result="gap")

    assert rest.events[0].event == "gap"
    assert rest.named("reset") == [{"text": run["answer"]}]
    assert rest.done
    assert end.status_code == 204
    assert gaps == 1


async def test_events_of_runs_that_go_on_or_ended_lately_stay(service: RunningService, pool: Pool) -> None:
    async with service.client() as client:
        await ask(client, "What is a lease?", "s1")
        async with pool.connection() as conn:
            await conn.execute("UPDATE slipway.runs SET finished_at = now() - interval '59 minutes'")
            hour_kept = await prune(pool, Retention(event_hours=1, session_days=0))
            await conn.execute("UPDATE slipway.runs SET finished_at = now() - interval '61 minutes'")
            hour_over = await prune(pool, Retention(event_hours=1, session_days=0))

    assert hour_kept is not None
    assert hour_over is not None
    assert (hour_kept.runs, hour_over.runs) == (0, 1)


async def test_a_session_keeps_its_latest_checkpoint_with_the_one_before_its_last_question_and_goes_on_from_it(
    service: RunningService, pool: Pool
) -> None:
    async with service.client() as client:
        await ask(client, "What is a lease?", "s1")
        before = await checkpoints(pool, "s1")

        first, second = await prune(pool, KEEP_ALL), await prune(pool, KEEP_ALL)
        after = await checkpoints(pool, "s1")
        await ask(client, "And a fence?", "s1")
        third = await prune(pool, KEEP_ALL)
        after_two = await checkpoints(pool, "s1")
        state = await AsyncPostgresSaver(pool).aget_tuple({"configurable": {"thread_id": "s1"}})

    assert first is not None
    assert second is not None
    assert third is not None
    assert (before > 1, after, after_two) == (True, 1, 2)
    assert (first.threads, second.threads, third.threads) == (1, 0, 1)
    assert state is not None
    questions = [m.content for m in state.checkpoint["channel_values"]["messages"] if m.type == "human"]
    assert questions == ["What is a lease?", "And a fence?"]


async def test_a_waiting_decision_keeps_its_checkpoints_and_resumes_after_a_prune(database_url: str, pool: Pool) -> None:
    graph = {"AGENT_GRAPH": "tests.service.runs.test_prune:deciding"}
    async with running_service(database_url, **graph) as service, service.client() as client:
        waiting = await ask(client, "go", "s1")
        before = await checkpoints(pool, "s1")
        while_waiting = await prune(pool, EVENTS_GONE)
        kept = await checkpoints(pool, "s1")
        stream = await sse.read(client, "GET", f"/runs/{waiting['run_id']}/stream")

        resumed = await client.post(f"/runs/{waiting['run_id']}/resume", json={"value": "blue"})
        afterwards = await prune(pool, KEEP_ALL)
        left = await checkpoints(pool, "s1")

    assert while_waiting is not None
    assert afterwards is not None
    assert (while_waiting.threads, kept) == (0, before)
    assert stream.named("interrupt")[0]["interrupts"] == waiting["interrupts"]
    assert (resumed.json()["outcome"], "decided blue" in resumed.json()["answer"]) == ("completed", True)
    assert (afterwards.threads, left) == (1, 1)


async def test_runs_that_go_on_while_their_sessions_are_pruned_lose_nothing(service: RunningService, pool: Pool) -> None:
    sessions = [f"s{n}" for n in range(4)]
    pruning = True

    async def prune_all_the_time() -> int:
        passes = 0
        while pruning:
            async with pool.connection() as conn:
                await conn.execute("UPDATE slipway.sessions SET compacted_at = NULL")
            await prune(pool, KEEP_ALL, pause=0)
            passes += 1
        return passes

    async with service.client() as client:
        pruner = asyncio.create_task(prune_all_the_time())
        for turn in range(4):
            runs = await asyncio.gather(*(ask(client, f"question {turn}", session) for session in sessions))
            assert {run["outcome"] for run in runs} == {"completed"}
        pruning = False
        passes = await pruner
        histories = [(await client.get(f"/sessions/{session}/messages")).json()["messages"] for session in sessions]
    states = [await AsyncPostgresSaver(pool).aget_tuple({"configurable": {"thread_id": session}}) for session in sessions]

    assert passes > 4
    for state, history in zip(states, histories, strict=True):
        assert state is not None
        kept = [m.content for m in state.checkpoint["channel_values"]["messages"] if m.type == "human"]
        assert kept == [f"question {turn}" for turn in range(4)]
        assert len(history) == 8


async def test_a_thread_with_a_delta_channel_is_left_alone_and_counted(pool: Pool) -> None:
    async def add(_: DeltaState) -> dict[str, Any]:
        return {"items": ["x"]}

    saver = AsyncPostgresSaver(pool)
    graph: Any = StateGraph(DeltaState)
    builder = graph.add_node("add", add).add_edge(START, "add").add_edge("add", END)
    config: Any = {"configurable": {"thread_id": "delta"}}
    await builder.compile(checkpointer=saver).ainvoke({"items": ["first"]}, config)
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES ('delta', 't', 'u', '')")
    before = await checkpoints(pool, "delta")

    first, second = await prune(pool, KEEP_ALL), await prune(pool, KEEP_ALL)
    state = await builder.compile(checkpointer=saver).aget_state(config)

    assert (first, second) == (Pruned(delta_threads=1), Pruned())
    assert await checkpoints(pool, "delta") == before
    assert state.values == {"items": ["first", "x"]}


async def test_sessions_with_one_state_are_passed_over_together(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    graph: Any = StateGraph(State)
    graph = graph.add_node("one", _step).add_edge(START, "one").compile(checkpointer=AsyncPostgresSaver(pool))
    await graph.ainvoke({"messages": ["hello"]}, {"configurable": {"thread_id": "s1"}}, durability="exit")
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO slipway.sessions (id, tenant, user_id, title)"
            " SELECT 's' || n, 't', 'u', '' FROM generate_series(1, 20) n"
        )
    compacted: list[str] = []

    async def spy(_: CompactingSaver, thread_id: str) -> None:
        compacted.append(thread_id)

    monkeypatch.setattr(CompactingSaver, "compact", spy)
    waiting = await prunable(pool, KEEP_ALL)
    done = await prune(pool, KEEP_ALL)
    left = await prunable(pool, KEEP_ALL)

    assert await checkpoints(pool, "s1") == 1
    assert (waiting.threads, done, left.threads, compacted) == (20, Pruned(), 0, [])


async def test_old_sessions_are_erased_with_all_that_is_theirs_but_the_ledger(service: RunningService, pool: Pool) -> None:
    async with service.client() as client:
        for session in ("old", "old-but-resumed", "new"):
            await ask(client, "What is a lease?", session)
        async with pool.connection() as conn:
            await conn.execute("UPDATE slipway.sessions SET last_active_at = now() - interval '31 days' WHERE id LIKE 'old%'")
            await conn.execute("UPDATE slipway.runs SET finished_at = now() - interval '31 days' WHERE session_id = 'old'")

            counted = await prunable(pool, Retention(event_hours=1e6, session_days=30))
            done = await prune(pool, Retention(event_hours=1e6, session_days=30))

            left = await (await conn.execute("SELECT DISTINCT thread_id FROM checkpoints ORDER BY 1")).fetchall()
            ledger = await (await conn.execute("SELECT DISTINCT session_id FROM slipway.ledger ORDER BY 1")).fetchall()
        listed = (await client.get("/sessions")).json()

    assert done is not None
    assert (counted.sessions, done.sessions) == (1, 1)
    assert [row["thread_id"] for row in left] == ["new", "old-but-resumed"]
    assert "old" not in json.dumps(listed).replace("old-but-resumed", "")
    assert "old" in [row["session_id"] for row in ledger]


async def test_sessions_stay_for_ever_by_default(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO slipway.sessions (id, tenant, user_id, title, last_active_at)"
            " VALUES ('ancient', 't', 'u', '', now() - interval '99 years')"
        )

    done = await prune(pool, KEEP_ALL)

    assert done is not None
    assert done.sessions == 0


async def test_two_passes_at_once_one_does_the_work(pool: Pool) -> None:
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(%s)", (0x511B0A8,))
        busy = await prune(pool, KEEP_ALL)

    assert busy is None
    assert await prune(pool, KEEP_ALL) == Pruned()


async def insert_runs(pool: Pool, runs: int, rows_each: int) -> None:
    """Ended runs, a day old, and one that runs."""
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES ('s', 't', 'u', '')")
        await conn.execute(
            "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, attempt, finished_at)"
            " SELECT gen_random_uuid(), 's', 't', 'u', '', '{}', 'finished', 'completed', 1, now() - interval '25 hours'"
            " FROM generate_series(1, %s)",
            (runs,),
        )
        await conn.execute(
            "INSERT INTO slipway.run_events (run_id, attempt, first_seq, last_seq, events)"
            ' SELECT id, 1, n, n, \'[["text", "", "word"]]\' FROM slipway.runs, generate_series(1, %s) n',
            (rows_each,),
        )
        await conn.execute(
            "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, attempt, lease_expires_at)"
            " VALUES (%s, 's', 't', 'u', '', '{}', 'running', 1, now() + interval '1 minute')",
            (uuid4(),),
        )


async def test_10_000_event_rows_go_in_batches_while_writers_write(pool: Pool) -> None:
    await insert_runs(pool, 2_000, 5)
    slowest, writing = 0.0, True

    async def write() -> None:
        nonlocal slowest
        while writing:
            begun = time.monotonic()
            async with pool.connection() as conn:
                await conn.execute(
                    "INSERT INTO slipway.run_events SELECT id, 1, n, n, '[]', now() FROM slipway.runs,"
                    " (SELECT coalesce(max(last_seq), 0) + 1 AS n FROM slipway.run_events JOIN slipway.runs ON id = run_id"
                    "  WHERE status = 'running') AS next WHERE status = 'running'"
                )
            slowest = max(slowest, time.monotonic() - begun)
            await asyncio.sleep(0.005)

    writer = asyncio.create_task(write())
    begun = time.monotonic()
    done = await prune(pool, Retention(event_hours=24, session_days=0), pause=0.01)
    took = time.monotonic() - begun
    writing = False
    await writer

    assert done is not None
    assert (done.runs, done.event_rows) == (2_000, 10_000)
    assert (took < 10, slowest < 1) == (True, True), (took, slowest)


async def test_the_background_pass_counts_and_measures(service: RunningService, pool: Pool) -> None:
    metrics = service.resources.metrics
    async with service.client() as client:
        await ask(client, "What is a lease?", "s1")
    background = asyncio.create_task(prune_forever(pool, EVENTS_GONE, 0.01, metrics))
    try:
        # Sizes last: a thread goes in a later pass than its run, and a pass that found the lock taken measures all the same.
        for counted in ({"what": "runs"}, {"what": "threads"}):
            while not await service.metric("agent_pruned_total", **counted):
                await asyncio.sleep(0.02)
        while not await service.metric("agent_table_bytes", table="checkpoints"):
            await asyncio.sleep(0.02)
    finally:
        background.cancel()

    assert await service.metric("agent_pruned_total", what="runs") == 1
    assert await service.metric("agent_pruned_total", what="threads") == 1
    assert await service.metric("agent_table_bytes", table="run_events") > 0


@pytest.mark.xdist_group("warm")
async def test_the_command_counts_first_and_then_prunes(database_url: str, pool: Pool, tmp_path: Path) -> None:
    await insert_runs(pool, 3, 2)

    def command(*options: str) -> dict[str, int]:
        code, said = slipway("prune", "--json", *options, log=tmp_path / f"log{options}", DATABASE_URL=database_url, PATH="")
        assert code == 0
        counts: dict[str, int] = json.loads(said.splitlines()[-1])  # after a line on what it does
        return counts

    dry = await asyncio.to_thread(command, "--dry-run")
    wet = await asyncio.to_thread(command)

    assert dry == wet == {"runs": 3, "event_rows": 6, "threads": 0, "delta_threads": 0, "sessions": 0}
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM slipway.run_events").fetchone() == (0,)


async def test_a_thread_of_a_client_keeps_its_history_for_a_while_and_one_of_a_single_run_goes(
    service: RunningService, pool: Pool
) -> None:
    run: dict[str, Any] = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "What is a lease?"}]}}
    async with service.client() as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        for _ in range(2):
            assert (await client.post(f"/threads/{thread}/runs/wait", json=run)).status_code == 200
        alone = (await client.post("/runs/wait", json=run)).headers["location"].split("/")[2]

        await prune(pool, KEEP_ALL)
        kept = (await client.get(f"/threads/{thread}/history")).json()
        still_there = (await client.get(f"/threads/{alone}")).status_code
        async with pool.connection() as conn:
            await conn.execute("UPDATE slipway.sessions SET last_active_at = now() - interval '11 minutes'")
            await conn.execute("UPDATE slipway.runs SET finished_at = now() - interval '11 minutes'")
        await prune(pool, Retention(event_hours=1e6, session_days=0, history_hours=0.1))
        left = (await client.get(f"/threads/{thread}/history")).json()
        gone = (await client.get(f"/threads/{alone}")).status_code

    assert len(kept) > 2
    before = next(state for state in kept if state["metadata"]["run_id"] != kept[0]["metadata"]["run_id"])
    assert [state["checkpoint_id"] for state in left] == [kept[0]["checkpoint_id"], before["checkpoint_id"]]
    assert (still_there, gone) == (200, 404)
