"""The state machine of runs on a real PostgreSQL: any order of what processes do keeps its invariants.

Several simulated processes share one database. Time passes by SQL alone: a lease expires when a rule sets it into a distant past.
What ran out because the machine is slow is prolonged after each rule, as what has not.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from psycopg.rows import dict_row

from agent_service.db.pool import Pool, make_pool
from agent_service.errors import NotInterrupted, SlipwayError
from agent_service.principal import Principal
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.run_leases import Leases
from agent_service.runs.run_rows import Asked
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.run_types import Ending, HandOver, Run
from agent_service.runs.writer import Writer

LEASE_SECONDS = 3.0
"""Nobody adopts in the first lease after the server's start; what a rule leases is prolonged by SQL at once."""

EXPIRED = "now() - interval '1 day'"
"""Where a rule sets a lease that is to run out: no slow machine does."""

MAX_ATTEMPTS = 3

HOLDERS = 3
SESSIONS = ("a", "b")
PRINCIPAL = Principal("default", "ann")


@dataclass
class Process:
    """What one process believes: `held` are the attempts it executes, rightly or not."""

    pool: Pool
    name: str
    held: dict[UUID, LiveRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.live = LiveRuns()
        self.writer = Writer(self.pool, self.live, holder=self.name, lease_seconds=LEASE_SECONDS)
        self.writer._renewed = math.inf  # when the rule says so, and not by the clock
        self.leases = Leases(self.pool, holder=self.name, lease_seconds=LEASE_SECONDS, max_attempts=MAX_ATTEMPTS)
        self.store = RunStore(
            self.pool,
            self.writer,
            holder=self.name,
            lease_seconds=LEASE_SECONDS,
            limits=QueueLimits(1000, 1000, 1000),
            on_busy="enqueue",
        )

    def hold(self, run: Run) -> None:
        self.held[run.id] = self.live.add(run)

    def drop(self, run_id: UUID) -> None:
        self.live.discard(self.held.pop(run_id))


class LeaseMachine(RuleBasedStateMachine):
    """Rules are what processes do; `pick` chooses among the runs that a rule may concern."""

    runner: asyncio.Runner
    pool: Pool
    database: psycopg.Connection[dict[str, Any]]
    adopted: list[UUID]

    def __init__(self) -> None:
        super().__init__()
        self.database.execute("TRUNCATE slipway.sessions, slipway.runs, slipway.run_events, slipway.ledger CASCADE")
        self.processes = [Process(self.pool, f"process-{number}") for number in range(HOLDERS)]
        self.outcomes: dict[UUID, tuple[str, int]] = {}
        self.attempts: dict[UUID, int] = {}
        self.crashes: dict[UUID, int] = {}

    def stop_the_clock(self) -> None:
        self.database.execute(
            f"UPDATE slipway.runs SET lease_expires_at = now() + interval '1 hour' WHERE lease_expires_at > {EXPIRED}"
        )

    def row(self, run_id: UUID) -> dict[str, Any]:
        row = self.database.execute("SELECT * FROM slipway.runs WHERE id = %s", (run_id,)).fetchone()
        assert row
        return row

    def is_current(self, live: LiveRun) -> bool:
        row = self.row(live.run.id)
        return bool(row["status"] == "running" and row["attempt"] == live.run.attempt)

    def holding(self, pick: int) -> tuple[Process, LiveRun] | None:
        """One of the attempts that some process executes, or believes so."""
        all_held = [(process, live) for process in self.processes for live in process.held.values()]
        return all_held[pick % len(all_held)] if all_held else None

    @rule(process=st.integers(0, HOLDERS - 1), session=st.sampled_from(SESSIONS), here=st.booleans())
    def ask(self, process: int, session: str, here: bool) -> None:
        asker = self.processes[process]
        try:
            run = self.runner.run(asker.store.start(Asked(uuid4(), PRINCIPAL, "?", {}), session, here=here, listed=True))
        except SlipwayError as error:
            assert error.code == "session_interrupted"  # noqa: PT017  # the only refusal under ON_BUSY=enqueue
            return
        assert run
        self.crashes[run.id] = 0
        if run.status == "running":
            asker.hold(run)
            self.stop_the_clock()

    @rule(process=st.integers(0, HOLDERS - 1), places=st.integers(0, 3), adopt=st.booleans())
    def claim(self, process: int, places: int, adopt: bool) -> None:
        self._claim([process], places, adopt)

    @rule(places=st.integers(1, 3))
    def claim_at_once(self, places: int) -> None:
        self._claim(range(HOLDERS), places, adopt=True)

    def _claim(self, processes: Any, places: int, adopt: bool) -> None:
        before = {row["id"]: row for row in self.database.execute("SELECT * FROM slipway.runs").fetchall()}

        async def all_claim() -> list[Any]:
            found = await asyncio.gather(*(self.processes[n].leases.claim(places, adopt=adopt) for n in processes))
            return [claimed for claimed, _ in found]

        claims = self.runner.run(all_claim())
        self.stop_the_clock()
        taken = [item.run.id for claim in claims for item in claim]
        assert len(taken) == len(set(taken)), "two processes took one run"
        for number, claim in zip(processes, claims, strict=True):
            assert len(claim) == 1 or not any(item.alone for item in claim), "a run with one crash left was not taken alone"
            for item in claim:
                was = before[item.run.id]
                assert item.run.attempt == was["attempt"] + 1
                assert item.reason == {"running": "crash", "queued": "handover" if was["attempt"] else "queued"}[was["status"]]
                if was["status"] == "running":
                    assert adopt
                    self.crashes[item.run.id] += 1
                    self.adopted.append(item.run.id)
                assert item.alone == (self.crashes[item.run.id] == MAX_ATTEMPTS - 1)
                self.processes[number].hold(item.run)

    @rule(pick=st.integers(0, 50))
    def expire(self, pick: int) -> None:
        running = self.database.execute("SELECT id FROM slipway.runs WHERE status = 'running' ORDER BY id").fetchall()
        if running:
            run_id = running[pick % len(running)]["id"]
            self.database.execute(f"UPDATE slipway.runs SET lease_expires_at = {EXPIRED} WHERE id = %s", (run_id,))

    @rule(pick=st.integers(0, 50), process=st.integers(0, HOLDERS - 1))
    def expire_and_adopt(self, pick: int, process: int) -> None:
        """The two that are of interest together; left to chance they meet in too few examples."""
        self.expire(pick)
        self._claim([process], 3, adopt=True)

    @rule(process=st.integers(0, HOLDERS - 1))
    def renew(self, process: int) -> None:
        holder = self.processes[process]
        current = {run_id for run_id, live in holder.held.items() if self.is_current(live)}
        holder.writer._renewed = -math.inf
        self.runner.run(holder.writer.commit())
        holder.writer._renewed = math.inf
        kept = {run_id for run_id, live in holder.held.items() if live.stop != "lost"}
        leased = self.database.execute(f"SELECT id FROM slipway.runs WHERE lease_expires_at > {EXPIRED}").fetchall()
        self.stop_the_clock()
        assert kept == current <= {row["id"] for row in leased}
        for run_id in [run_id for run_id in holder.held if run_id not in kept]:
            self._forgive(holder, holder.held[run_id])
            holder.drop(run_id)

    def _forgive(self, holder: Process, live: LiveRun) -> None:
        row = self.row(live.run.id)
        if row["status"] != "finished" and row["attempt"] > live.run.attempt and row["crashes"]:
            self.crashes[live.run.id] -= 1
        self.runner.run(holder.leases.forgive(live.run.id, live.run.attempt))

    @rule(pick=st.integers(0, 50), texts=st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3))
    def write(self, pick: int, texts: list[str]) -> None:
        if found := self.holding(pick):
            process, live = found
            for text in texts:
                live.said.publish_text(text, "node")
            self._flush(process)

    @rule(pick=st.integers(0, 50))
    def write_twice(self, pick: int) -> None:
        """A commit whose answer was lost: the same events again, and one more."""
        if found := self.holding(pick):
            process, live = found
            live.logged_events = max((seq for attempt, seq, _ in self._events(live) if attempt == live.run.attempt), default=0)
            first = self.database.execute(
                "SELECT max(first_seq) AS seq FROM slipway.run_events WHERE run_id = %s AND attempt = %s",
                (live.run.id, live.run.attempt),
            ).fetchone()
            if first and first["seq"]:
                live.logged_events = first["seq"] - 1
            live.said.publish_text("again", "node")
            self._flush(process)

    def _flush(self, process: Process) -> None:
        current = {run_id for run_id, live in process.held.items() if self.is_current(live)}
        unwritten = {run_id for run_id, live in process.held.items() if live.unwritten}
        before = {live.run.id: self._events(live) for live in process.held.values()}
        self.runner.run(process.writer.commit())
        lost = {run_id for run_id, live in process.held.items() if live.stop == "lost"}
        assert lost == unwritten - current
        for live in process.held.values():
            mine = [(e.attempt, e.seq, e.payload) for e in live.said.events]
            if live.run.id in current:
                assert [e for e in self._events(live) if e[0] == live.run.attempt] == mine
            else:
                assert self._events(live) == before[live.run.id], "a zombie wrote"
        for run_id in lost:
            process.drop(run_id)

    def _events(self, live: LiveRun) -> list[tuple[int, int, str]]:
        rows = self.database.execute(
            "SELECT attempt, first_seq, events FROM slipway.run_events WHERE run_id = %s ORDER BY attempt, first_seq",
            (live.run.id,),
        ).fetchall()
        return [(row["attempt"], row["first_seq"] + n, event[2]) for row in rows for n, event in enumerate(row["events"])]

    @rule(pick=st.integers(0, 50), outcome=st.sampled_from(["completed", "interrupted", "failed", "cancelled"]))
    def finish(self, pick: int, outcome: Any) -> None:
        self._end(pick, Ending(outcome, interrupts=[{"id": "i", "value": 1}] if outcome == "interrupted" else []))

    @rule(pick=st.integers(0, 50))
    def hand_over(self, pick: int) -> None:
        self._end(pick, HandOver())

    def _end(self, pick: int, ending: Ending | HandOver) -> None:
        if not (found := self.holding(pick)):
            return
        process, live = found
        current = self.is_current(live)

        async def end() -> bool:
            ending_task = asyncio.create_task(process.writer.finish(live, ending))
            await asyncio.sleep(0)
            await process.writer.commit()
            return await ending_task

        assert self.runner.run(end()) is current
        process.drop(live.run.id)
        if current and isinstance(ending, HandOver):
            assert self.row(live.run.id)["status"] == "queued"

    @rule(pick=st.integers(0, 50))
    def cancel(self, pick: int) -> None:
        runs = self.database.execute("SELECT * FROM slipway.runs ORDER BY id").fetchall()
        if runs:
            was = runs[pick % len(runs)]
            self.runner.run(self.processes[0].store.request_cancel(was["id"]))
            now = self.row(was["id"])
            unbegun = was["status"] == "queued" and was["attempt"] == 0
            assert now["status"] == ("finished" if unbegun else was["status"])
            assert now["cancel_requested"] or was["status"] == "finished"

    @rule(pick=st.integers(0, 50), process=st.integers(0, HOLDERS - 1), here=st.booleans())
    def resume(self, pick: int, process: int, here: bool) -> None:
        asked = self.database.execute("SELECT id FROM slipway.runs WHERE outcome = 'interrupted' ORDER BY id").fetchall()
        if not asked:
            return
        decider = self.processes[process]
        interrupted = self.runner.run(decider.store.get(asked[pick % len(asked)]["id"], PRINCIPAL))
        decided = self.database.execute("SELECT 1 FROM slipway.runs WHERE resumes = %s", (interrupted.id,)).fetchone()
        try:
            run = self.runner.run(
                decider.store.start_resume(Asked(uuid4(), PRINCIPAL, "?", {}, resumes=interrupted.id), interrupted, here=here)
            )
        except NotInterrupted:
            assert decided
            return
        assert run
        assert not decided
        self.crashes[run.id] = 0
        if run.status == "running":
            decider.hold(run)
            self.stop_the_clock()

    @precondition(lambda self: any(process.held for process in self.processes))
    @rule(process=st.integers(0, HOLDERS - 1))
    def die(self, process: int) -> None:
        for run_id in list(self.processes[process].held):
            self.processes[process].drop(run_id)

    @invariant()
    def what_has_happened_stays(self) -> None:
        for row in self.database.execute("SELECT * FROM slipway.runs").fetchall():
            assert row["attempt"] >= self.attempts.get(row["id"], 0), "attempts only grow"
            self.attempts[row["id"]] = row["attempt"]
            if row["outcome"]:
                ended = (row["outcome"], row["attempt"])
                assert self.outcomes.setdefault(row["id"], ended) == ended, "an outcome changed"
            else:
                assert row["id"] not in self.outcomes
            assert row["crashes"] == self.crashes[row["id"]]

    @invariant()
    def one_writer_for_a_run_and_one_run_for_a_session(self) -> None:
        for run_id in self.attempts:
            writers = [p for p in self.processes if run_id in p.held and self.is_current(p.held[run_id])]
            assert len(writers) <= 1
        busy = self.database.execute(
            "SELECT session_id FROM slipway.runs WHERE status = 'running' GROUP BY session_id HAVING count(*) > 1"
        ).fetchall()
        assert not busy

    @invariant()
    def the_log_only_grows_at_its_end(self) -> None:
        early = self.database.execute(
            "SELECT 1 FROM slipway.run_events e JOIN slipway.runs r ON r.id = e.run_id WHERE e.attempt > r.attempt"
        ).fetchall()
        assert not early, "events of an attempt that nobody was given"
        overlapping = self.database.execute(
            "SELECT 1 FROM (SELECT first_seq, lag(last_seq, 1, 0) OVER (PARTITION BY run_id, attempt ORDER BY first_seq)"
            " AS before FROM slipway.run_events) AS batch WHERE first_seq <> before + 1"
        ).fetchall()
        assert not overlapping, "a gap or an overlap between batches"


@pytest.fixture
def machine(database_url: str) -> Iterator[type[LeaseMachine]]:
    with asyncio.Runner() as runner, psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as database:
        pool = make_pool(database_url, size=HOLDERS, timeout=5)
        runner.run(pool.open())
        age = "SELECT now() - pg_postmaster_start_time() > %s * interval '1 second' AS enough"
        while not (database.execute(age, (LEASE_SECONDS,)).fetchone() or {})["enough"]:
            time.sleep(0.05)
        yield type("Machine", (LeaseMachine,), {"runner": runner, "pool": pool, "database": database, "adopted": []})
        runner.run(pool.close())


@pytest.mark.timeout(240)
def test_any_order_of_steps_keeps_one_writer_one_outcome_and_a_growing_log(machine: type[LeaseMachine]) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    bounded = settings(max_examples=40, stateful_step_count=40, deadline=None, database=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=bounded)
    assert machine.adopted, "no lease ever ran out: nothing was shown"
