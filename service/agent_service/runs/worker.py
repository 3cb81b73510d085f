"""What a process does with runs: takes them under a lease, executes, renews, hands over."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from uuid import UUID

import structlog

from agent_service.errors import DatabaseUnavailable
from agent_service.metrics import Metrics
from agent_service.principal import CALLER, Principal
from agent_service.runs.budgets import Budgets
from agent_service.runs.executor import Executor
from agent_service.runs.live_run import LiveRun, LiveRuns
from agent_service.runs.notices import Notices
from agent_service.runs.run_leases import Claimed, Leases, Owner
from agent_service.runs.run_types import Ending, HandOver, Run, used
from agent_service.runs.writer import Writer
from agent_service.threads import LANE
from agent_service.tracing.spans import Tracing

log = structlog.stdlib.get_logger(__name__)

STOP_SECONDS = 10.0
"""How long, at the end of a drain, cancelled steps and the database may take; what is left is adopted as after a crash."""

ALONE_LEASES = 2
"""Leases for which nothing begins beside a run that has one crash left, unless a step of it ends first. What blocks or
kills its process mostly does so at once. Another run like it has to wait longer: until the step ends."""
EXPIRY_SECONDS = 0.05
"""After a lease has run out: then it has."""


@dataclass(slots=True)
class Place:
    """For one run that begins."""

    here: bool
    """There is one on this process; else the run is to be queued."""
    run: Run | None = None
    fresh: bool = False
    """The session of the run is new."""


class Worker:
    """Executes runs, at most `max_concurrent` at a time, and takes further ones from the queue as places get free."""

    def __init__(
        self,
        *,
        leases: Leases,
        writer: Writer,
        live: LiveRuns,
        executor: Executor,
        budgets: Budgets,
        notices: Notices,
        metrics: Metrics,
        tracing: Tracing,
        max_concurrent: int,
        lease_seconds: float,
    ) -> None:
        self._leases = leases
        self._writer = writer
        self._live = live
        self._executor = executor
        self._budgets = budgets
        self._notices = notices
        self._metrics = metrics
        self._tracing = tracing
        self._max_concurrent = max_concurrent
        self._lease_seconds = lease_seconds
        self._jobs: dict[UUID, LiveRun] = {}
        self._reserved = 0
        self._claiming = False
        self._claimable = 0  # places that the claim under way may fill
        self._taking = True
        self._adopt_after = 0.0
        self._turn_seconds: deque[float] = deque([1.0], maxlen=50)
        self._queue: Counter[Owner] = Counter()
        self._overtaken = False
        self._may_suspect = True
        """The last claim took no suspect: others get their turn between two of them."""
        self._alone: LiveRun | None = None
        self._alone_until = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._jobs)

    @property
    def queued(self) -> int:
        """Runs that this process accepted and that only wait for a place, as last looked."""
        return self._queue.total()

    @property
    def _free(self) -> int:
        if not self._taking or (self._suspects and time.monotonic() < self._alone_until):
            return 0
        return self._max_concurrent - len(self._jobs) - self._reserved - self._claimable

    @property
    def _suspects(self) -> bool:
        """Whether a run is here that has one crash left and has not yet shown that it is harmless."""
        run = self._alone
        if run and (self._jobs.get(run.run.id) is not run or run.advanced):
            self._alone = None
        return self._alone is not None

    def retry_after(self) -> int:
        """Seconds until a place is likely to be free: the queue at the pace of the last turns."""
        mean = sum(self._turn_seconds) / len(self._turn_seconds)
        return max(1, min(60, round(mean * (self.queued + 1) / self._max_concurrent)))

    # Taking

    @contextmanager
    def place(self, principal: Principal) -> Iterator["Place"]:
        """Keeps a place, if there is one, for a run that is about to be stored; what `place.run` then is, is executed here.

        Who has nothing in the queue may overtake it, every other place: neither can keep the other waiting for ever.
        """
        place = Place(here=self._reserve(principal))
        try:
            yield place
        finally:
            self._reserved -= place.here
            if place.run and place.run.status == "running":
                self.take(place.run, fresh=place.fresh)
            elif place.run:
                self._notices.work.set()  # it is in the queue

    def _reserve(self, principal: Principal) -> bool:
        if self._free <= 0:
            return False
        if self._queue:
            if self._overtaken or (principal.tenant, principal.user) in self._queue:
                return False
            self._overtaken = True
        self._reserved += 1
        return True

    def take(self, run: Run, *, alone: bool = False, fresh: bool = False) -> None:
        """Executes a run whose lease this process has. `fresh`: its session is new."""
        if older := self._jobs.get(run.id):
            older.halt("lost")
        live = self._jobs[run.id] = self._live.add(run, fresh=fresh)
        if alone:
            self._alone, self._alone_until = live, time.monotonic() + ALONE_LEASES * self._lease_seconds
        self._metrics.runs_in_flight.set(len(self._jobs))
        context = copy_context()
        context.run(LANE.set, live)
        context.run(CALLER.set, run.principal.label)
        live.task = asyncio.create_task(self._execute(live), name=f"run-{run.id}", context=context)
        self._writer.attend()

    async def claim_forever(self) -> None:
        """Takes queued runs when there is news or a free place, and dead processes' runs when their leases run out."""
        while True:
            self._notices.work.clear()
            seconds = await self._claim()
            self._metrics.runs_queued.set(self.queued)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._notices.work.wait()

    async def _claim(self) -> float:
        """Seconds until the next look."""
        self._claiming = True
        try:
            adopt = time.monotonic() >= self._adopt_after
            alone = self._may_suspect and not self._suspects  # one of them would be there when the other one strikes
            # Half, so that questions which come meanwhile find places too, and no place is given twice.
            places = self._claimable = max(0, -(-self._free // 2))
            claimed, queue = await self._leases.claim(places, adopt=adopt, alone=alone, held=list(self._jobs))
            self._queue = queue.here
            self._budgets.any_set = queue.budgets
            if places > 0:
                self._may_suspect = not any(item.alone for item in claimed)
                self._overtaken = self._overtaken and not claimed
            self._claimable = 0
            for item in claimed:
                self._welcome(item)
            if claimed and len(claimed) >= places and self._free > 0:
                self._notices.work.set()  # there may be more, for the other half
        except DatabaseUnavailable:
            # Everyone's leases ran out meanwhile: their holders get the time of a lease to renew them.
            self._adopt_after = time.monotonic() + self._lease_seconds
            return min(self._notices.poll_seconds, self._lease_seconds / 5)
        finally:
            self._claiming, self._claimable = False, 0
        # What has run out and was not to be had: somebody else takes it, or it is not its time.
        expiry = queue.next_expiry + EXPIRY_SECONDS if queue.next_expiry > 0 else self._lease_seconds / 5
        return min(self._notices.poll_seconds, expiry, self._lease_seconds)  # one that begins after this look is seen in time

    def _welcome(self, item: Claimed) -> None:
        if item.reason != "queued":
            self._metrics.runs_recovered.labels(item.reason).inc()
            log.info("run_taken_over", **item.run.ids, reason=item.reason)
        self.take(item.run, alone=item.alone)

    # Executing

    async def _execute(self, live: LiveRun) -> None:
        run, live.started = live.run, True
        live.trace = self._tracing.run(
            run.traceparent, run_id=run.id, session_id=run.session_id, graph=run.graph, attempt=run.attempt
        )
        structlog.contextvars.bind_contextvars(**{**run.ids, "trace_id": live.trace.trace_id})
        try:
            await self._carry_out(live)
        finally:
            live.trace.close()

    async def _carry_out(self, live: LiveRun) -> None:
        started = time.monotonic()
        done = False
        try:
            ending = await self._executor.execute(live)
            live.stop = live.stop or (None if ending else "hand_over")
            ours = live.stop != "lost" and await self._writer.finish(live, ending or HandOver())
            done = ours and ending is not None
            if ending and done:
                self._count(live, ending, time.monotonic() - started)
            else:
                live.trace.stopped(live.stop or "lost")
                log.info("run_stopped_here", reason=live.stop or "lost")
            if live.stop == "lost" and live.forgivable:
                with suppress(DatabaseUnavailable):
                    await self._leases.forgive(live.run.id, live.run.attempt)
        finally:
            if self._free <= 0:
                self._notices.work.set()
            if self._jobs.get(live.run.id) is live:
                del self._jobs[live.run.id]
            self._metrics.runs_in_flight.set(len(self._jobs))
            self._live.discard(live)
            live.said.release(stored=done)

    def _count(self, live: LiveRun, ending: Ending, seconds: float) -> None:
        self._turn_seconds.append(seconds)
        graph = self._metrics.graph_label(live.run.graph)
        self._metrics.turn_seconds.labels(graph).observe(seconds, live.trace.exemplar)
        self._metrics.runs.labels(ending.outcome, graph, self._metrics.graph_version).inc()
        if ending.outcome == "iteration_limit":
            self._metrics.count_answer("iteration_limit")
        elif ending.outcome == "completed":
            self._metrics.count_answer("refused" if live.refused else "sourced" if live.sourced else "unsourced")
        if live.route:
            self._metrics.routes.labels(self._metrics.route_label(live.route)).inc()
        live.trace.outcome(ending.outcome, used(live.calls))
        log.info("run_ended", outcome=ending.outcome, seconds=round(seconds, 3), model_calls=len(live.calls))

    # Stopping

    def cancel(self, run_id: UUID) -> None:
        """Stops a run if it executes here."""
        if live := self._jobs.get(run_id):
            live.halt("cancel")

    def stop_taking(self) -> None:
        """The first step of a drain: what runs here goes on, nothing new begins."""
        self._taking = False

    async def finish(self, seconds: float) -> None:
        """Lets runs finish for so long."""
        await self._wait(seconds)

    async def hand_over(self, seconds: float) -> None:
        """Hands what still runs to a peer: at a step boundary if one comes within `seconds`, else in mid-step."""
        self.stop_taking()  # or this process would be the first to take it again
        for live in self._jobs.values():
            live.control.request_drain("shutdown")
        await self._wait(seconds)
        for live in list(self._jobs.values()):
            live.halt("hand_over")
        await self._wait(STOP_SECONDS)

    async def _wait(self, seconds: float) -> None:
        """Waits until no run is here or on its way here, or for so long."""
        deadline = time.monotonic() + seconds
        while (self._jobs or self._reserved or self._claiming) and (left := deadline - time.monotonic()) > 0:
            tasks = [live.task for live in self._jobs.values() if live.task]
            await (asyncio.wait(tasks, timeout=left) if tasks else asyncio.sleep(min(left, 0.02)))
