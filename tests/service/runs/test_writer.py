"""One writer commits for all runs of a process: how much goes into a commit, and what one run's trouble does to the others.

Counts of statements and transactions, so that work which comes back fails here, and not in a bench.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from agent_service.caller_limits import CallerLimits
from agent_service.db.pool import Pool
from agent_service.errors import DatabaseUnavailable, LeaseLost, SessionInterrupted
from agent_service.principal import Principal
from agent_service.runs import events, records, writer
from agent_service.runs.checkpoints import CURRENT_LIVE, Checkpointer
from agent_service.runs.event_log import EventLog
from agent_service.runs.events import START
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.run_types import Ending, HandOver, ModelCall, RunInput
from agent_service.runs.writer import Writer
from tests.service.runs.conftest import Database, until

ANN = Principal("default", "ann")
INPUT: RunInput = {"messages": [{"role": "user", "content": "q"}]}


class Process:
    """A process's writer and what it writes for."""

    def __init__(self, pool: Pool, *, lease_seconds: float = 60) -> None:
        self.live = LiveRuns()
        self.writer = Writer(pool, self.live, holder="here", lease_seconds=lease_seconds)
        limits = QueueLimits(100, 100, 100)
        self.store = RunStore(pool, self.writer, holder="here", lease_seconds=60, limits=limits, on_busy="reject")
        self.saver = Checkpointer(pool, self.writer)

    async def begin(self, session: str, run_id: UUID | None = None) -> LiveRun | None:
        begun = await self.store.begin(Asked(run_id or uuid4(), ANN, "q", INPUT), session, here=True, listed=True)
        return self.live.add(begun[0]) if begun else None

    async def begin_all(self, *sessions: str) -> list[LiveRun]:
        """In one commit."""
        beginning = [asyncio.ensure_future(self.begin(session)) for session in sessions]
        await asyncio.sleep(0)
        await self.writer.commit()
        return [run for run in await asyncio.gather(*beginning) if run]

    async def finish(self, *runs: LiveRun, ending: Ending | HandOver | None = None) -> list[bool]:
        ends = [asyncio.ensure_future(self.writer.finish(run, ending or Ending("completed"))) for run in runs]
        await asyncio.sleep(0)
        await self.writer.commit()
        return await asyncio.gather(*ends)


@pytest.fixture
async def process(pool: Pool) -> Process:
    return Process(pool)


@pytest.fixture
async def running(process: Process) -> AsyncIterator[Process]:
    """Commits as it does in the service."""
    task = asyncio.create_task(process.writer.run_forever())
    yield process
    process.writer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Commits, and statements that this task makes: the pool says something to each connection that it opens meanwhile."""
    counts: Counter[str] = Counter()
    task = asyncio.current_task()
    execute = psycopg.AsyncConnection.execute

    async def counting(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        counts["statements"] += asyncio.current_task() is task
        return await execute(self, query, *args, **options)

    transact = Writer._transact

    async def committing(self: Writer, group: Any) -> Any:
        counts["commits"] += 1
        return await transact(self, group)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", counting)
        patch.setattr(Writer, "_transact", committing)
        yield counts


async def one_step(process: Process, run: LiveRun) -> RunnableConfig:
    """What LangGraph puts for a step: a checkpoint and the writes of its task."""
    config: RunnableConfig = {"configurable": {"thread_id": run.run.thread_id, "checkpoint_ns": "", CURRENT_LIVE: run}}
    checkpoint = {
        **empty_checkpoint(),
        "channel_values": {"messages": ["hello"], "route": "RAG"},
        "channel_versions": {"messages": "1", "route": "1"},
    }
    saved = await process.saver.aput(config, checkpoint, CheckpointMetadata(step=1), {"messages": "1", "route": "1"})  # type: ignore[arg-type]  # a TypedDict
    inside: RunnableConfig = {"configurable": {**config["configurable"], **saved["configurable"]}}
    await process.saver.aput_writes(inside, [("messages", "world")], "task")
    return inside


async def test_a_commit_is_one_statement_for_sixteen_runs_as_for_one(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = []
    for count in (1, 16):
        runs = await process.begin_all(*(f"{count}-{n}" for n in range(count)))
        for run in runs:
            run.said.publish_text("hello", "agent")
            run.calls.append(ModelCall(1, 1, "agent", "m", 1, 0, 1, None))
            await one_step(process, run)
        with counted(monkeypatch) as counts:
            assert await process.finish(*runs) == [True] * count
        assert counts["commits"] == 1
        statements.append(counts["statements"])
        for run in runs:
            process.live.discard(run)

    assert statements == [1, 1]


async def test_sixteen_starts_are_one_commit(process: Process, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as counts:
        runs = await process.begin_all(*(f"s{n}" for n in range(16)))

    assert (len(runs), counts["commits"]) == (16, 1)
    assert database.rows("SELECT count(*) FROM slipway.runs WHERE status = 'running' AND attempt = 1") == [{"count": 16}]


@pytest.mark.parametrize("known_rows", [None, 5, 20])
async def test_a_commit_reads_its_own_rows_whatever_postgresql_knows_of_the_table(
    process: Process, pool: Pool, monkeypatch: pytest.MonkeyPatch, known_rows: int | None
) -> None:
    async with pool.connection() as conn:

        @asynccontextmanager
        async def same(_: Pool) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
            yield conn

        async def turns(count: int) -> int:
            """Rows of `runs` that so many commits of four runs have read."""
            before = await rows_read(conn)
            for _ in range(count):
                runs = await process.begin_all(*(uuid4().hex for _ in range(4)))
                for run in runs:
                    run.said.publish_text("hello", "agent")
                    run.calls.append(ModelCall(1, 1, "agent", "m", 1, 0, 1, None))
                await process.finish(*runs)
                for run in runs:
                    process.live.discard(run)
            return await rows_read(conn) - before

        monkeypatch.setattr(writer, "connection", same)
        if known_rows:
            for number in range(known_rows):
                await process.finish(*await process.begin_all(f"known-{number}"))
            await conn.execute("ANALYZE slipway.runs")
        await turns(8)  # from then on a session keeps its plans, of a table as small as that
        await conn.execute(
            "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome)"
            " SELECT gen_random_uuid(), s.id, 'default', 'bob', 'q', '{}', 'finished', 'completed'"
            " FROM generate_series(1, 3000), (SELECT min(id) AS id FROM slipway.sessions) AS s"
        )
        assert await turns(5) < 5 * 4 * 10


async def rows_read(conn: psycopg.AsyncConnection[Any]) -> int:
    """Of `runs`, by the session of this connection and those that are idle."""
    await conn.execute("SELECT pg_stat_force_next_flush()")
    row = await (
        await conn.execute(
            "SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid) AS read"
            " FROM pg_stat_user_tables t WHERE relid = 'slipway.runs'::regclass"
        )
    ).fetchone()
    assert row
    return int(row["read"])


async def test_a_commit_that_a_deadlock_ended_is_written_again(
    process: Process, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = CallerLimits(per_minute=100)
    callers = [Principal("default", name) for name in ("a", "b")]
    with psycopg.connect(database_url) as other, counted(monkeypatch) as counts:
        other.execute("SET deadlock_timeout = '1min'")  # so that it is the writer whose transaction ends
        for name in ("a", "b"):
            other.execute("INSERT INTO slipway.callers VALUES ('default', %s, now(), 0, 0)", (name,))
        other.commit()
        other.execute("SELECT 1 FROM slipway.callers WHERE user_id = 'b' FOR UPDATE")
        beginning = [
            asyncio.ensure_future(
                process.store.begin(Asked(uuid4(), who, "q", INPUT, limits=limits), f"of-{who.user}", here=True, listed=True)
            )
            for who in callers
        ]
        await asyncio.sleep(0)
        committing = asyncio.ensure_future(process.writer.commit())
        await until(lambda: database.rows("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('tuple', 'transactionid')"))
        await asyncio.to_thread(other.execute, "SELECT 1 FROM slipway.callers WHERE user_id = 'a' FOR UPDATE")
        other.rollback()
        await committing
        assert all(await asyncio.gather(*beginning))
    assert counts["commits"] >= 2
    assert [row["user_id"] for row in database.rows("SELECT user_id FROM slipway.runs ORDER BY 1")] == ["a", "b"]
    assert [row["recent"] for row in database.rows("SELECT recent FROM slipway.callers")] == [1, 1], "each counts once"


async def test_with_nothing_to_write_nothing_is_sent(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = await process.begin_all("s")
    with counted(monkeypatch) as counts:
        await process.writer.commit()

    assert counts["statements"] == 0
    assert not run.unwritten


async def test_the_rows_of_a_step_are_those_that_langgraphs_own_saver_writes(
    process: Process, pool: Pool, database: Database
) -> None:
    (run,) = await process.begin_all("ours")
    values: dict[str, Any] = {"messages": ["hello"], "route": "RAG", "n": 3, "x": 1.5, "no": None, "yes": True, "by": b"\0\1"}
    versions = {name: f"{number}" for number, name in enumerate(values, 1)}
    checkpoint: Any = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
    writes = [("messages", {"a": [1]}), ("route", "DATA")]
    marks = [("__interrupt__", ("why",)), ("__resume__", "yes")]
    for saver, thread, live in (
        (process.saver, run.run.thread_id, {CURRENT_LIVE: run}),
        (AsyncPostgresSaver(pool), "theirs", {}),
    ):
        config: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": "", **live}, "metadata": {"run_id": "1"}}
        saved = await saver.aput(config, checkpoint, CheckpointMetadata(step=1, source="loop"), {**versions, "gone": "9"})
        inside: RunnableConfig = {"configurable": {**config["configurable"], **saved["configurable"]}}
        await saver.aput_writes(inside, writes, "task", "path")
        await saver.aput_writes(inside, marks, "task", "path")
    await process.writer.commit()

    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        ours, theirs = (
            [
                {name: value for name, value in row.items() if name != "thread_id"}
                for row in database.rows(f"SELECT * FROM {table} WHERE thread_id = %s ORDER BY {table}::text", thread)
            ]
            for thread in (run.run.thread_id, "theirs")
        )
        assert ours == theirs != []


async def put_state(process: Process, run: LiveRun, *, after: str | None, source: str) -> str:
    """Returns its id."""
    inside = {"thread_id": run.run.thread_id, "checkpoint_ns": "", "checkpoint_id": after, CURRENT_LIVE: run}
    saved = await process.saver.aput({"configurable": inside}, empty_checkpoint(), CheckpointMetadata(source=source), {})  # type: ignore[typeddict-item]  # one of its words
    return str(saved["configurable"]["checkpoint_id"])


async def test_others_commits_take_of_a_run_only_what_is_urgent(process: Process, database: Database) -> None:
    talks, works = await process.begin_all("talks", "works")
    talks.asks_first = True
    asked = await put_state(process, talks, after=None, source="input")
    await put_state(process, talks, after=asked, source="loop")
    talks.said.publish_text("hello", "agent")
    works.said.publish_text("hello", "agent")
    await put_state(process, works, after=None, source="loop")

    await process.writer.commit(all_runs=False)

    assert talks.unwritten
    assert not works.unwritten
    assert database.rows("SELECT DISTINCT thread_id FROM checkpoints") == [{"thread_id": "works"}]
    assert database.rows("SELECT DISTINCT run_id FROM slipway.run_events") == [{"run_id": works.run.id}]

    await process.writer.commit()
    assert not talks.unwritten


async def test_a_state_with_the_question_alone_waits_for_work_and_no_commit_is_made_for_it(
    process: Process, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = await process.begin_all("s")
    run.every_state, run.asks_first = False, True
    asked = await put_state(process, run, after=None, source="input")
    begun = await put_state(process, run, after=asked, source="loop")
    with counted(monkeypatch) as counts:
        await process.writer.commit()
    assert counts["statements"] == 0

    run.said.publish_text("hello", "agent")
    await process.writer.commit()
    assert database.rows("SELECT 1 FROM checkpoints") == []

    done = await put_state(process, run, after=begun, source="loop")
    await process.writer.commit(all_runs=False)
    assert database.rows("SELECT checkpoint_id, parent_checkpoint_id AS parent FROM checkpoints") == [
        {"checkpoint_id": done, "parent": None}
    ]


async def test_a_run_that_ends_or_is_handed_over_leaves_its_question_in_the_graphs_state(
    process: Process, database: Database
) -> None:
    ends, goes = await process.begin_all("ends", "goes")
    for run in (ends, goes):
        run.every_state = False
        await put_state(process, run, after=None, source="input")

    await process.finish(ends)
    await process.finish(goes, ending=HandOver())

    assert [row["thread_id"] for row in database.rows("SELECT thread_id FROM checkpoints ORDER BY 1")] == ["ends", "goes"]


async def test_what_a_failed_commit_had_taken_is_urgent_again(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = await process.begin_all("s")
    await one_step(process, run)
    execute = psycopg.AsyncConnection.execute

    async def gone(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError("the server closed the connection")

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", gone)
    with pytest.raises(DatabaseUnavailable):
        await process.writer.commit(all_runs=False)
    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute)
    await process.writer.commit(all_runs=False)

    assert not run.unwritten


async def test_what_a_run_has_put_is_read_back_at_once(running: Process) -> None:
    run = await running.begin("s")
    assert run
    inside = await one_step(running, run)

    found = await running.saver.aget_tuple(inside)

    assert found
    assert found.checkpoint["channel_values"] == {"messages": ["hello"], "route": "RAG"}
    assert found.pending_writes == [("task", "messages", "world")]


async def test_the_first_question_of_a_session_reads_no_state(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await running.begin("s")
    assert run
    run.fresh = True
    config: RunnableConfig = {"configurable": {"thread_id": run.run.thread_id, "checkpoint_ns": "", CURRENT_LIVE: run}}
    with counted(monkeypatch) as counts:
        assert await running.saver.aget_tuple(config) is None
    assert counts["statements"] == 0


async def test_a_run_that_was_lost_is_told_and_the_others_of_the_commit_are_written(
    process: Process, database: Database, pool: Pool
) -> None:
    lost, kept = await process.begin_all("lost", "kept")
    database.rows("UPDATE slipway.runs SET attempt = 2 WHERE id = %s", lost.run.id)
    for run in (lost, kept):
        run.said.publish_text("mine", "agent")
        await one_step(process, run)

    assert await process.finish(lost, kept) == [False, True]

    assert (lost.stop, kept.stop) == ("lost", None)
    assert [event.payload for event in (await EventLog(pool).read(kept.run.id, START))[0]] == ["mine"]
    assert database.rows("SELECT DISTINCT thread_id FROM checkpoints") == [{"thread_id": kept.run.thread_id}]
    assert database.rows("SELECT 1 FROM slipway.run_events WHERE run_id = %s", lost.run.id) == []
    with pytest.raises(LeaseLost):
        await one_step(process, lost)


async def test_what_the_database_refuses_of_one_run_fails_that_run_alone(process: Process, database: Database) -> None:
    refused, kept = await process.begin_all("refused", "kept")
    for run in (refused, kept):
        await one_step(process, run)
    refused.steps.add_writes([(refused.run.thread_id, "", "c", "t", 0, "", "channel\0", "msgpack", b"")], marks=False)
    refused.calls.append(ModelCall(1, 1, "agent", "m", 7, 0, 1, None))

    ends = [asyncio.ensure_future(process.finish(run)) for run in (refused, kept)]
    await asyncio.gather(*ends[1:])
    await process.writer.commit()  # of the refused one nothing is left but that it has failed
    assert await asyncio.gather(*ends) == [[True], [True]]

    row, other = database.run(str(refused.run.id)), database.run(str(kept.run.id))
    assert (row["outcome"], row["error"]["code"]) == ("failed", "internal")
    assert other["outcome"] == "completed"
    assert database.rows("SELECT DISTINCT thread_id FROM checkpoints") == [{"thread_id": kept.run.thread_id}]
    billed = database.rows("SELECT run_id, input_tokens FROM slipway.ledger")
    assert billed == [{"run_id": refused.run.id, "input_tokens": 7}], "whoever stores what is refused pays all the same"


async def test_a_model_call_that_the_ledger_cannot_hold_is_dropped_with_a_run_that_fails(
    process: Process, database: Database
) -> None:
    (run,) = await process.begin_all("s")
    run.said.publish_text("hello", "agent")
    run.calls += [ModelCall(1, 1, "agent", "m", 2**40, 0, 1, None)]
    end = asyncio.ensure_future(process.writer.finish(run, Ending("completed")))
    await asyncio.sleep(0)
    for _ in range(3):
        await process.writer.commit()
    assert await end
    assert database.run(str(run.run.id))["outcome"] == "failed"
    assert database.rows("SELECT * FROM slipway.ledger") == []


async def test_a_lease_is_renewed_by_the_writer_and_a_cancel_is_heard_of(pool: Pool, database: Database) -> None:
    process = Process(pool, lease_seconds=0.6)
    writing = asyncio.create_task(process.writer.run_forever())
    run = await process.begin("s")
    assert run
    run.task = asyncio.create_task(asyncio.sleep(3600))
    run.started = True
    process.writer.attend()
    before = database.run(str(run.run.id))["lease_expires_at"]
    await until(lambda: database.run(str(run.run.id))["lease_expires_at"] > before)
    database.rows("UPDATE slipway.runs SET cancel_requested = true")
    await until(lambda: run.stop == "cancel")
    writing.cancel()
    await asyncio.gather(writing, run.task, return_exceptions=True)


async def test_a_start_with_a_question_to_it_takes_the_way_with_the_answers(process: Process, database: Database) -> None:
    """A session that is busy, waits for a decision, or whose last run was stopped is none of the plain start's business."""
    (first,) = await process.begin_all("s")
    assert await process.begin_all("s") == [], "one is running"
    assert await process.finish(first, ending=Ending("interrupted", interrupts=[{"id": "i", "value": 1}])) == [True]
    assert await process.begin_all("s") == [], "a decision is waited for"
    with pytest.raises(SessionInterrupted):
        await process.store.start(Asked(uuid4(), ANN, "q", INPUT), "s", here=True, listed=True)
    database.rows("UPDATE slipway.runs SET outcome = 'cancelled'")
    assert await process.begin_all("s") == [], "the history is to be mended"
    database.rows("UPDATE slipway.runs SET outcome = 'completed'")
    assert len(await process.begin_all("s")) == 1
    assert database.rows("SELECT count(*) FROM slipway.sessions") == [{"count": 1}]


async def test_an_id_that_a_run_has_starts_no_second_one_and_leaves_no_session(process: Process, database: Database) -> None:
    (first,) = await process.begin_all("s")
    again = asyncio.ensure_future(process.begin("another", first.run.id))
    await asyncio.sleep(0)
    await process.writer.commit()

    assert await again is None
    assert database.rows("SELECT id FROM slipway.sessions") == [{"id": "s"}]


async def test_two_callers_sessions_of_one_name_get_a_thread_each(process: Process) -> None:
    (ann,) = await process.begin_all("s")
    beginning = asyncio.ensure_future(
        process.store.begin(Asked(uuid4(), Principal("other", "bob"), "q", INPUT), "s", here=True, listed=True)
    )
    await asyncio.sleep(0)
    await process.writer.commit()
    begun = await beginning

    assert begun
    bob, fresh = begun
    assert fresh
    assert (bob.session_id, bob.thread_id != ann.run.thread_id) == ("s", True)


async def test_a_session_that_somebody_else_has_locked_holds_up_no_commit(process: Process, database_url: str) -> None:
    first, other = await process.begin_all("locked", "other")
    assert await process.finish(first) == [True]
    with psycopg.connect(database_url) as eraser:
        eraser.execute("SELECT 1 FROM slipway.sessions WHERE id = 'locked' FOR UPDATE")
        async with asyncio.timeout(5):
            assert await process.begin_all("locked", "third") == [run for run in process.live if run.run.session_id == "third"]
            assert await process.finish(other) == [True]


async def test_events_are_told_by_notice_only_to_who_watches_elsewhere(process: Process, pool: Pool, database_url: str) -> None:
    watched, unwatched = await process.begin_all("watched", "unwatched")
    await EventLog(pool).watch(watched.run.id)
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN slipway_events")
        listener.execute("LISTEN slipway_work")
        for run in (watched, unwatched):
            run.said.publish_text("news", "agent")
        await process.writer.commit()
        assert await process.finish(watched, unwatched) == [True, True]
        heard = [(notice.channel, notice.payload) for notice in listener.notifies(timeout=0.5)]

    assert heard == [("slipway_events", str(watched.run.id))] * 2


async def test_a_hand_over_calls_for_a_process_with_a_free_place(process: Process, database_url: str, database: Database) -> None:
    (run,) = await process.begin_all("s")
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN slipway_work")
        assert await process.finish(run, ending=HandOver()) == [True]
        heard = [notice.channel for notice in listener.notifies(timeout=5, stop_after=1)]

    assert heard == ["slipway_work"]
    assert database.run(str(run.run.id))["status"] == "queued"


async def test_a_start_is_refused_while_the_database_is_away_and_the_rest_waits_for_it(
    running: Process, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    run = await running.begin("s")
    assert run
    transact, away = Writer._transact, True

    async def failing(self: Writer, group: Any) -> Any:
        if away:
            raise DatabaseUnavailable("away")
        return await transact(self, group)

    monkeypatch.setattr(Writer, "_transact", failing)
    run.said.publish_text("kept", "agent")
    with pytest.raises(DatabaseUnavailable):
        await running.begin("another")
    ending = asyncio.ensure_future(running.writer.finish(run, Ending("completed")))
    stepping = asyncio.ensure_future(one_step(running, run))
    done, _ = await asyncio.wait([ending, stepping], timeout=0.3)
    assert not done, "a graph runs ahead of a database that is away"
    away = False

    assert await ending is True
    await stepping
    assert database.run(str(run.run.id))["outcome"] == "completed"


@pytest.mark.parametrize("older", [False, True])
async def test_sources_are_looked_for_where_a_tool_may_have_cited_some(
    process: Process, database: Database, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    row = records._ending_row

    def without(run: LiveRun, ending: Ending) -> Any:
        """As code of schema 37 says it."""
        return {name: value for name, value in row(run, ending).items() if name != "may_cite"}

    if older:
        monkeypatch.setattr(records, "_ending_row", without)
    source = {"title": "Leases", "source": "leases.md"}
    cites, says, claims = await process.begin_all("cites", "says", "claims nothing")
    for run in (cites, claims):
        run.said.publish(events.tool_end("call", "search", status="ok", output="", seconds=0.1, sources=[source], node="agent"))
    cites.sourced = True
    await process.finish(cites, says, claims)

    rows = database.rows("SELECT session_id AS id, sources FROM slipway.runs")
    assert {row["id"]: row["sources"] for row in rows} == {
        "cites": [source],
        "says": [],
        "claims nothing": [source] if older else [],
    }
