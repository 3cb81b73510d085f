"""What a process does with runs: takes them under a lease, executes, renews, hands over."""

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from langgraph.runtime import RunControl

from agent_service.errors import DatabaseUnavailable
from agent_service.metrics import Metrics
from agent_service.principal import Principal
from agent_service.runs.event_log import EventLog, HandOver
from agent_service.runs.executor import Executor, usage
from agent_service.runs.leases import Claimed, Leases, Owner
from agent_service.runs.live import LiveRun, LiveRuns, StopReason
from agent_service.runs.model import Ending, Run
from agent_service.runs.notices import Notices
from agent_service.threads import LANE
from agent_service.tracing.spans import Tracing

log = structlog.stdlib.get_logger(__name__)

STOP_SECONDS = 10.0
"""How long, at the end of a drain, cancelled steps and the database may take; what is left is adopted as after a crash."""

ALONE_LEASES = 2
"""Leases for which nothing begins beside a run that has one crash left, unless a step of it ends first. What blocks or
kills its process mostly does so at once. Another run like it has to wait longer: until the step ends."""

UNHEARD_CANCEL_SECONDS = 0.5
"""How often to ask for cancelled runs where notices do not come: a cancel takes effect within a second."""


@dataclass(eq=False, slots=True)
class _Job:
    live: LiveRun
    control: RunControl = field(default_factory=RunControl)
    task: asyncio.Task[None] | None = None
    started: bool = False


class Worker:
    def __init__(
        self,
        *,
        leases: Leases,
        events: EventLog,
        live: LiveRuns,
        executor: Executor,
        notices: Notices,
        metrics: Metrics,
        tracing: Tracing,
        max_concurrent: int,
        lease_seconds: float,
    ) -> None:
        self._leases = leases
        self._events = events
        self._live = live
        self._executor = executor
        self._notices = notices
        self._metrics = metrics
        self._tracing = tracing
        self._max_concurrent = max_concurrent
        self._lease_seconds = lease_seconds
        self._jobs: dict[UUID, _Job] = {}
        self._reserved = 0
        self._claiming = False
        self._taking = True
        self._adopt_after = 0.0
        self._turn_seconds: deque[float] = deque([1.0], maxlen=50)
        self._queue: Counter[Owner] = Counter()
        self._overtaken = False
        self._may_suspect = True
        """The last claim took no suspect: others get their turn between two of them."""
        self._alone: _Job | None = None
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
        return self._max_concurrent - len(self._jobs) - self._reserved

    @property
    def _suspects(self) -> bool:
        """Whether a run is here that has one crash left and has not yet shown that it is harmless."""
        job = self._alone
        if job and (self._jobs.get(job.live.run.id) is not job or job.live.advanced):
            self._alone = None
        return self._alone is not None

    def retry_after(self) -> int:
        """Seconds until a place is likely to be free: the queue at the pace of the last turns."""
        mean = sum(self._turn_seconds) / len(self._turn_seconds)
        return max(1, min(60, round(mean * (self.queued + 1) / self._max_concurrent)))

    # Taking

    def reserve(self, principal: Principal) -> bool:
        """Keeps a place for a run that is about to be inserted; `take` or `unreserve` follows.

        Who has nothing in the queue may overtake it, every other place: neither can keep the other waiting for ever.
        (Here a fair share between principals belongs, once the queue has one.)
        """
        if self._free <= 0:
            return False
        if self._queue:
            if self._overtaken or (principal.tenant, principal.user) in self._queue:
                return False
            self._overtaken = True
        self._reserved += 1
        return True

    def look(self) -> None:
        """There may be something in the queue."""
        self._notices.work.set()

    def unreserve(self) -> None:
        self._reserved -= 1

    def take(self, run: Run, *, alone: bool = False) -> None:
        """Executes a run whose lease this process has."""
        if older := self._jobs.get(run.id):
            self._stop(older, "lost")
        job = _Job(self._live.add(run))
        self._jobs[run.id] = job
        if alone:
            self._alone, self._alone_until = job, time.monotonic() + ALONE_LEASES * self._lease_seconds
        self._metrics.runs_in_flight.set(len(self._jobs))
        context = copy_context()
        context.run(LANE.set, job.live)
        job.task = asyncio.create_task(self._execute(job), name=f"run-{run.id}", context=context)

    async def claim_forever(self) -> None:
        """Takes queued runs when there is news or a free place, and dead processes' runs when their leases run out."""
        while True:
            await self._claim()
            await self._count_queue()
            try:
                async with asyncio.timeout(min(self._notices.poll_seconds, self._lease_seconds / 5)):
                    await self._notices.work.wait()
            except TimeoutError:
                continue

    async def _claim(self) -> None:
        self._notices.work.clear()
        places = self._free
        if places < 1:
            return
        self._claiming = True
        try:
            adopt = time.monotonic() >= self._adopt_after
            alone = self._may_suspect and not self._suspects  # one of them would be there when the other one strikes
            claimed = await self._leases.claim(places, adopt=adopt, alone=alone, held=list(self._jobs))
            self._may_suspect = not any(item.alone for item in claimed)
            self._overtaken = self._overtaken and not claimed
            for item in claimed:
                self._welcome(item)
        except DatabaseUnavailable:
            # Everyone's leases ran out meanwhile: their holders get the time of a lease to renew them.
            self._adopt_after = time.monotonic() + self._lease_seconds
        finally:
            self._claiming = False

    async def _count_queue(self) -> None:
        with suppress(DatabaseUnavailable):
            self._queue = await self._leases.queued_here()
        self._metrics.runs_queued.set(self.queued)

    def _welcome(self, item: Claimed) -> None:
        if item.reason != "queued":
            self._metrics.runs_recovered.labels(item.reason).inc()
            log.info("run taken over", **item.run.ids, reason=item.reason)
        self.take(item.run, alone=item.alone)

    # Executing

    async def _execute(self, job: _Job) -> None:
        run, job.started = job.live.run, True
        with self._tracing.run(run.traceparent, run_id=run.id, session_id=run.session_id, attempt=run.attempt) as trace:
            structlog.contextvars.bind_contextvars(**{**run.ids, "trace_id": trace.trace_id})
            job.live.trace = trace
            await self._carry_out(job)

    async def _carry_out(self, job: _Job) -> None:
        live = job.live
        started = time.monotonic()
        done = False
        try:
            ending = await self._executor.execute(live, job.control)
            live.stop = live.stop or (None if ending else "hand_over")
            ours = live.stop != "lost" and await self._events.finish(live, ending or HandOver())
            done = ours and ending is not None
            if ending and done:
                self._count(live, ending, time.monotonic() - started)
            else:
                live.trace.stopped(live.stop or "lost")
                log.info("run stopped here", reason=live.stop or "lost")
            if live.stop == "lost" and live.forgivable:
                with suppress(DatabaseUnavailable):
                    await self._leases.forgive(live.run.id, live.run.attempt)
        finally:
            if self._free <= 0:
                self._notices.work.set()
            if self._jobs.get(live.run.id) is job:
                del self._jobs[live.run.id]
            self._metrics.runs_in_flight.set(len(self._jobs))
            self._live.discard(live)
            live.release(done=done)

    def _count(self, live: LiveRun, ending: Ending, seconds: float) -> None:
        self._turn_seconds.append(seconds)
        self._metrics.turn_seconds.observe(seconds, live.trace.exemplar)
        self._metrics.runs.labels(ending.outcome).inc()
        if live.route:
            self._metrics.routes.labels(self._metrics.route_label(live.route)).inc()
        live.trace.outcome(ending.outcome, usage(live))
        log.info("run ended", outcome=ending.outcome, seconds=round(seconds, 3), model_calls=len(live.calls))

    # Keeping, stopping

    async def renew_forever(self) -> None:
        while True:
            often = self._lease_seconds / 3
            await asyncio.sleep(often if self._notices.heard else min(often, UNHEARD_CANCEL_SECONDS))
            if not self._jobs:
                continue
            held = {job.live.run.id: job for job in self._jobs.values()}
            try:
                async with self._events.exclusive:
                    kept = await self._leases.renew([(job.live.run.id, job.live.run.attempt) for job in held.values()])
            except DatabaseUnavailable:
                continue
            for run_id, job in held.items():
                if run_id not in kept:
                    self.lose(job.live)
                elif kept[run_id]:
                    self.cancel(run_id)

    def cancel(self, run_id: UUID) -> None:
        """Stops a run if it executes here."""
        if job := self._jobs.get(run_id):
            self._stop(job, "cancel")

    def lose(self, live: LiveRun) -> None:
        """Another process has the run, or it has ended: nothing more may be done for it here."""
        job = self._jobs.get(live.run.id)
        if job and job.live is live and not live.closing:
            log.warning("run lost to another process", **live.run.ids)
            self._stop(job, "lost")

    def _stop(self, job: _Job, reason: StopReason) -> None:
        if job.live.stop is None and job.task and not job.live.closing:
            job.live.stop = reason
            if job.started:  # a task that is cancelled before its first step never gets to end its run
                job.task.cancel()

    def stop_taking(self) -> None:
        self._taking = False

    async def finish(self, seconds: float) -> None:
        """Lets runs finish for so long."""
        await self._wait(seconds)

    async def hand_over(self, seconds: float) -> None:
        """Hands what still runs to a peer: at a step boundary if one comes within `seconds`, else in mid-step."""
        self.stop_taking()  # or this process would be the first to take it again
        for job in self._jobs.values():
            job.control.request_drain("shutdown")
        await self._wait(seconds)
        for job in list(self._jobs.values()):
            self._stop(job, "hand_over")
        await self._wait(STOP_SECONDS)

    async def _wait(self, seconds: float) -> None:
        """Waits until no run is here or on its way here, or for so long."""
        deadline = time.monotonic() + seconds
        while (self._jobs or self._reserved or self._claiming) and (left := deadline - time.monotonic()) > 0:
            tasks = [job.task for job in self._jobs.values() if job.task]
            await (asyncio.wait(tasks, timeout=left) if tasks else asyncio.sleep(min(left, 0.02)))
