"""The one writer of a process: what all its runs have to store goes to the database together, in one transaction.

Starts, graph state, events, the ledger, outcomes and lease renewals wait here for the next commit (group commit). It begins
at once when something urgent waits and few runs are here, else a moment later, with more in it. Nothing shows as done to
anybody before it is committed: who must know waits (`begin`, `settled`, `finish`).

A transaction is one statement, slipway.write_all, and so reaches its commit by itself, whatever blocks this process. First in
it stands the fence: of a run that is no longer this process's nothing is written.
docs/developer/durable-runs.md draws it.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
import structlog
from psycopg import errors
from psycopg.types.json import Jsonb

from agent_service.caller_limits import StandingRow
from agent_service.db.pool import RETRY_SECONDS, Pool, connection, idle_limit
from agent_service.errors import DatabaseUnavailable
from agent_service.runs import records, steps
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.records import BegunRow, NewsRow, StartRow
from agent_service.runs.run_types import Ending, HandOver, RunError

log = structlog.stdlib.get_logger(__name__)

FLUSH_SECONDS = 0.1
"""How far the log of events may lag behind memory: what a crash may cost a reader, who then gets `reset`."""

STEP_SECONDS = 0.01
"""How far the graph's state may: what a crash repeats of the work of a step that had just ended."""

PAUSE_SECONDS_PER_RUN = 0.001
"""Between the begins of two commits, for each run that is here: so many commits a second as runs share them."""

MOST_PAUSE_SECONDS = 0.02
"""The most of that: what a turn waits at its start and at its end, on a process with twenty runs and more."""

MOST_WAITING_BYTES = 4_000_000
"""Of one run's state; beyond it, and while the database is away, the graph waits for the commit."""

RENEWALS_IN_A_LEASE = 3

UNHEARD_CANCEL_SECONDS = 0.5
"""How often to ask for cancelled runs where notices do not come: a cancel takes effect within a second."""

FENCE_STATE = "SW001"
"""SQLSTATE that slipway.fence_all raises."""

IDS_PER_NOTICE = 200
"""A payload holds under 8,000 bytes; an id takes 37."""

REFUSED: RunError = {"code": "internal", "message": "the answer could not be stored", "retryable": False}
"""The error of a run that stores what PostgreSQL does not take."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What the database says of a run that has begun: the rest of its row is as asked for."""

    thread_id: str
    created_at: datetime
    fresh: bool
    """Its session is new."""
    standing: StandingRow | None
    """Of its caller, as slipway.standing says it; None without limits."""


Refused = StandingRow
"""Instead of Begun: the caller's standing, which says by which limit."""


def _begun(row: BegunRow) -> Begun | Refused:
    standing = row["standing"]
    if standing and standing["refused"]:
        return standing
    return Begun(row["thread_id"], datetime.fromisoformat(row["created_at"]), row["fresh"], standing)


@dataclass(eq=False, slots=True)
class _Start:
    asked: StartRow
    done: asyncio.Future[Begun | Refused | None]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.asked["tenant"], self.asked["user_id"], self.asked["session_id"]


@dataclass(frozen=True, slots=True)
class _Group:
    """What one commit is for."""

    starts: list[_Start]
    runs: list[LiveRun]
    renews: bool


@dataclass(frozen=True, slots=True)
class _Written:
    """What it came to: rows of the starts; runs that are to stop or are watched elsewhere; how many events and calls of each
    run; runs that have ended."""

    begun: list[BegunRow | None]
    news: list[NewsRow]
    marks: list[tuple[LiveRun, int, int]]
    endings: list[LiveRun]
    work: bool
    """A run waits for a process with a free place."""


class Writer:
    """One transaction at a time for all runs of the process, each fenced by its run's attempt."""

    def __init__(
        self, pool: Pool, live: LiveRuns, *, holder: str, lease_seconds: float, heard: Callable[[], bool] = lambda: True
    ) -> None:
        """`heard`: whether cancels come by notice."""
        self._pool = pool
        self._live = live
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._idle_limit = idle_limit(lease_seconds)
        self._heard = heard
        self._starts: list[_Start] = []
        self._ending: dict[LiveRun, asyncio.Future[bool]] = {}
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._go = asyncio.Event()
        self._began = 0.0
        self._swept = 0.0
        self._renewed = time.monotonic()
        self._committed = asyncio.Event()
        self._away = False
        self._closed = False
        self.writing = asyncio.Lock()
        """Held for each commit."""

    # What waits for a commit

    async def begin(self, asked: StartRow) -> Begun | Refused | None:
        """Starts a run here, under this process's lease, or queues it: slipway.begin_run. None where the plain way is not open.

        Raises:
            DatabaseUnavailable: whether it has begun is not known; if so, it is adopted as after a crash.
        """
        if self._closed:
            raise DatabaseUnavailable("this process writes no more; try again")
        start = _Start(
            {**asked, "holder": self._holder, "lease": self._lease_seconds}, asyncio.get_running_loop().create_future()
        )
        self._starts.append(start)
        self._ask(0)
        return await start.done

    def attend(self) -> None:
        """A run is here: its events, and its lease."""
        self._ask(FLUSH_SECONDS)

    async def saved(self, run: LiveRun, *, work: bool = True) -> None:
        """The run's `steps` have grown, by work or by its question alone. Returns at once, unless too much waits."""
        if work:
            run.urgent = run.steps.work = True
            self._ask(STEP_SECONDS)
        if self._away or run.steps.bytes > MOST_WAITING_BYTES:
            await self.settled(run)

    async def settled(self, run: LiveRun) -> None:
        """Waits until all that the run has is committed, or it is stopped."""
        await self._until(run, lambda: not run.unwritten)

    async def billed(self, run: LiveRun) -> None:
        """Waits until the model calls that the run has made are in the ledger, or it is stopped; not for what others say."""
        made = len(run.calls)
        await self._until(run, lambda: run.logged_calls >= made)

    async def logged(self, run: LiveRun, events: int) -> None:
        """Waits until so many of its events are in the log, or it is stopped."""
        await self._until(run, lambda: run.logged_events >= events)

    async def _until(self, run: LiveRun, done: Callable[[], bool]) -> None:
        while not (done() or run.stopped or self._closed):
            run.urgent = True
            self._ask(0)
            self._committed.clear()
            await self._committed.wait()

    async def finish(self, run: LiveRun, ending: Ending | HandOver) -> bool:
        """Writes the rest of the run and its outcome, or puts it back into the queue; waits while the database is away.

        Returns False when the run was no longer this attempt's to end.
        """
        if self._closed:
            return False
        run.ending = ending
        done = self._ending.setdefault(run, asyncio.get_running_loop().create_future())
        self._ask(0)
        return await asyncio.shield(done)

    # When

    def _ask(self, seconds: float) -> None:
        """The next commit is to begin within so many seconds; a little later when many runs are here."""
        loop = asyncio.get_running_loop()
        pause = min(PAUSE_SECONDS_PER_RUN * len(self._live), MOST_PAUSE_SECONDS)
        due = max(loop.time() + seconds, self._began + pause)
        if self._due is None or due < self._due:
            if self._timer:
                self._timer.cancel()
            self._due = due
            self._timer = loop.call_at(due, self._go.set)

    async def run_forever(self) -> None:
        """Commits what waits until it is cancelled. A database that is away is tried again; nothing is lost meanwhile."""
        self._ask(0)  # after a failure, what waits has asked before
        while True:
            await self._go.wait()
            self._go.clear()
            self._due = None
            self._began = asyncio.get_running_loop().time()
            try:
                await self.commit(all_runs=self._began - self._swept >= FLUSH_SECONDS)
                self._away = False
            except DatabaseUnavailable:
                if not self._away:
                    log.warning("writing_waits_for_database", runs=len(self._live))
                self._away = True
                await asyncio.sleep(RETRY_SECONDS)
                self._ask(0)
            if len(self._live):
                self._ask(max(0.0, self._swept + FLUSH_SECONDS - asyncio.get_running_loop().time()))

    def close(self) -> None:
        """Nothing more is written: whoever waits goes on, and what was to be written is adopted as after a crash."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        for done in self._ending.values():
            if not done.done():
                done.set_result(False)
        for start in self._starts:
            start.done.cancel()
        self._ending.clear()
        self._committed.set()

    # Committing

    async def commit(self, *, all_runs: bool = True) -> None:
        """Writes what waits in one transaction; run by run if that is refused.

        `all_runs`: or those only that are urgent or end. Each row of the log has its price: fewer and fuller ones are cheaper.

        Raises:
            DatabaseUnavailable: nothing was written, or it is not known; what waited still waits, but for starts.
        """
        async with self.writing:
            group = self._next_group(all_runs=all_runs)
            if not (group.starts or group.runs):
                return
            try:
                await self._write(group)
            except DatabaseUnavailable:
                raise
            except Exception as error:
                # Whatever one run's content does must not hold up the others. (The message may quote it.)
                log.error("commit_refused", error=type(error).__name__)  # noqa: TRY400  # no message
                for start in group.starts:
                    await self._start_alone(start)
                for run in group.runs:
                    await self._write_alone(run, renews=group.renews)
            finally:
                for start in group.starts:
                    if not start.done.done():
                        start.done.set_exception(DatabaseUnavailable("the database does not answer; try again"))
        self._committed.set()

    async def write(self) -> None:
        """Writes what waits in one transaction, or raises what the database said."""
        await self._write(self._next_group(all_runs=True))

    def _next_group(self, *, all_runs: bool) -> _Group:
        """What waits now. Of a run that is lost nothing is written."""
        if all_runs:
            self._swept = asyncio.get_running_loop().time()
        often = self._lease_seconds / RENEWALS_IN_A_LEASE
        often = often if self._heard() else min(often, UNHEARD_CANCEL_SECONDS)
        renews = time.monotonic() - self._renewed >= often
        runs = [
            run
            for run in {*self._live, *self._ending}
            if run in self._ending or (run.stop != "lost" and (renews or (run.due and (all_runs or run.urgent))))
        ]
        # In one order everywhere, so that no two transactions wait for each other's sessions.
        starts = sorted((start for start in self._starts if not start.done.done()), key=lambda start: start.key)
        self._starts = []
        return _Group(starts, runs, renews)

    async def _write(self, group: _Group) -> None:
        """One transaction; another one without the runs that turn out to be lost."""
        while True:
            began = time.time_ns()
            try:
                written = await self._transact(group)
            except DatabaseUnavailable as error:
                if not isinstance(error.__cause__, errors.DeadlockDetected):  # the other side has gone on
                    raise
            except psycopg.Error as error:
                if error.sqlstate != FENCE_STATE:
                    raise
                await self._drop_lost(group)
            else:
                break
        self._report(group, written, began)
        await self._notify(written)

    async def _transact(self, group: _Group) -> _Written:
        endings = [run for run in group.runs if run in self._ending]
        marks = [(run, len(run.said.events), len(run.calls)) for run in group.runs]
        for run in group.runs:
            if run.gives_steps:
                run.saving, run.steps = run.steps, steps.Steps()
            run.urgent = False
        arguments = self._arguments(group)
        try:
            async with connection(self._pool) as conn:
                row = await (await conn.execute(records.WRITE_ALL.encode(), arguments, prepare=True)).fetchone()
            assert row is not None  # noqa: S101  # a function without a set has one
        except BaseException:
            for run in group.runs:
                taken, run.saving, run.urgent = run.saving, None, True
                if taken:
                    taken.absorb(run.steps)
                    run.steps = taken
            raise
        begun = row["begun"] or []
        queued = (
            each and each["created_at"] and not start.asked["here"] for start, each in zip(group.starts, begun, strict=True)
        )
        return _Written(begun, row["news"] or [], marks, endings, row["work"] or any(queued))

    def _arguments(self, group: _Group) -> dict[str, object]:
        saving = [(run, run.saving) for run in group.runs if run.saving]
        survivors = [run for run, saved in saving if saved.survived and run.run.crashes]
        return {
            **dict.fromkeys(records.PARAMETERS),
            "queues": any(not start.asked["here"] for start in group.starts),
            "starts": [Jsonb(start.asked) for start in group.starts] or None,
            "runs": records.ids(group.runs) or None,
            "tokens": [run.run.attempt for run in group.runs] or None,
            "lease": self._lease_seconds if group.renews and group.runs else None,
            "survivors": records.ids(survivors) or None,
            **steps.arguments([saved for _, saved in saving]),
            **records.arguments(group.runs),
            "idle": self._idle_limit,
        }

    def _report(self, group: _Group, written: _Written, began: int) -> None:
        """Tells everyone who waits; nothing is awaited here."""
        ended = time.time_ns()
        for start, row in zip(group.starts, written.begun, strict=True):
            if not start.done.done():
                start.done.set_result(_begun(row) if row else None)
        for run, events, calls in written.marks:
            run.trace.wrote(
                began, ended, events=events - run.logged_events, runs=len(group.runs), ends_run=run in written.endings
            )
            run.logged_events, run.logged_calls = events, calls
            run.advanced = run.advanced or bool(run.saving and run.saving.survived)
            run.saving = None
            self._live.tell(run.run.id)
        if group.renews:
            self._renewed = time.monotonic()
        for news in written.news:
            if news["cancel_requested"] and (live := self._live.get(UUID(news["id"]))):
                live.halt("cancel")
        for run in written.endings:
            self._end(run, ours=True)

    async def _notify(self, written: _Written) -> None:
        """Behind the commit, and only if somebody waits: while a transaction that notifies commits, it holds a lock of the
        whole server. What is lost here, polling finds: a full queue of notices is no reason to write anything again."""
        news = [row["id"] for row in written.news if row["watched"]]
        if not (news or written.work):
            return
        with suppress(DatabaseUnavailable, psycopg.Error):
            async with connection(self._pool) as conn:
                for first in range(0, len(news), IDS_PER_NOTICE):
                    await conn.execute(records.NOTIFY_EVENTS, (" ".join(news[first : first + IDS_PER_NOTICE]),))
                if written.work:
                    await conn.execute(records.NOTIFY_WORK)

    async def _drop_lost(self, group: _Group) -> None:
        """Another process has the run, or it has ended: nothing more may be done for it here."""
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(records.HELD, records.keys(group.runs))).fetchall()
        held = {row["id"] for row in rows}
        for run in [run for run in group.runs if run.run.id not in held]:
            group.runs.remove(run)
            if run.said.state == "open":
                log.warning("run_lost", **run.run.ids)
            run.halt("lost")
            run.stop = "lost"
            self._end(run, ours=False)

    def _end(self, run: LiveRun, *, ours: bool) -> None:
        done = self._ending.pop(run, None)
        if done and not done.done():
            done.set_result(ours)

    async def _start_alone(self, start: _Start) -> None:
        try:
            await self._write(_Group([start], [], renews=False))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            start.done.set_exception(error)

    async def _write_alone(self, run: LiveRun, *, renews: bool) -> None:
        try:
            await self._write(_Group([], [run], renews))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            name = type(error).__name__
            log.error("run_writes_dropped", error=name, **run.run.ids)  # noqa: TRY400  # no message
            records.drop_unwritten(run)
            if run in self._ending:
                run.ending = Ending("failed", REFUSED)
                self._ask(0)
            run.halt("refused")
