"""Runs from the outside: start, resume, cancel, follow, wait. Connections only watch; a task of its own executes each run."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import structlog

from agent_service.errors import DatabaseUnavailable, GuardrailBlocked, IdempotencyConflict, InvalidRequest, Overloaded
from agent_service.metrics import Metrics
from agent_service.principal import Principal
from agent_service.runs.event_log import RETRY_SECONDS, EventLog
from agent_service.runs.executor import Executor, publish_ending
from agent_service.runs.live import LiveRun, LiveRuns
from agent_service.runs.model import START, Ending, Event, Position, Run
from agent_service.runs.store import RunStore

log = structlog.stdlib.get_logger(__name__)

REMOTE_POLL_SECONDS = 0.2
"""How often a reader looks for events of a run that another process executes."""

MAX_RETRY_AFTER_SECONDS = 60


class RunService:
    def __init__(
        self,
        *,
        store: RunStore,
        events: EventLog,
        live: LiveRuns,
        executor: Executor,
        metrics: Metrics,
        check_input: Callable[[str], str | None],
        max_concurrent: int,
        max_queued: int,
    ) -> None:
        self._store = store
        self._events = events
        self._live = live
        self._executor = executor
        self._metrics = metrics
        self._check_input = check_input
        self._max_concurrent = max_concurrent
        self._max_queued = max_queued
        self._places = asyncio.Semaphore(max_concurrent)
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._holder = f"process-{uuid4()}"
        self._turn_seconds: deque[float] = deque([1.0], maxlen=50)

    # Starting

    async def start(
        self,
        principal: Principal,
        question: str,
        *,
        session_id: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        listed: bool = True,
        idempotency_key: str | None = None,
    ) -> Run:
        """Starts a run, or joins the one that the same idempotency key started.

        Args:
            messages: OpenAI-style messages of the input; the question alone by default.
            listed: whether the session shows in lists.

        Raises:
            GuardrailBlocked, Overloaded, NotFound, SessionBusy, SessionInterrupted, IdempotencyConflict
        """
        if idempotency_key and (first := await self._store.by_idempotency_key(principal, idempotency_key)):
            return _joined(first, question)
        self._refuse_bad_input(question)
        self._refuse_overload()
        run_input = {"messages": messages or [{"role": "user", "content": question}]}
        run = await self._store.start(
            uuid4(), session_id or uuid4().hex, principal, question, run_input, listed=listed, idempotency_key=idempotency_key
        )
        if run is None:
            return _joined(await self._first(principal, idempotency_key), question)
        self._spawn(run)
        return run

    async def resume(
        self, principal: Principal, run_id: UUID, *, values: Any, by_interrupt: bool, idempotency_key: str | None = None
    ) -> Run:
        """Starts the run that carries a decision for `run_id`.

        Args:
            values: what the interrupt returns in the graph; a mapping by interrupt id if `by_interrupt`.
        """
        interrupted = await self._store.get(run_id, principal)
        if idempotency_key and (first := await self._store.by_idempotency_key(principal, idempotency_key)):
            return first
        pending = [str(item["id"]) for item in interrupted.interrupts or []]
        if by_interrupt and interrupted.interrupts and set(values) != set(pending):
            raise InvalidRequest(f"values: expected one for each of {', '.join(pending)}", field="values")
        self._refuse_overload()
        resume = values if by_interrupt or len(pending) < 2 else dict.fromkeys(pending, values)  # noqa: PLR2004  # one is the plain case
        run = await self._store.start_resume(uuid4(), interrupted, {"resume": resume}, idempotency_key=idempotency_key)
        if run is None:
            return await self._first(principal, idempotency_key)
        self._spawn(run)
        return run

    async def _first(self, principal: Principal, idempotency_key: str | None) -> Run:
        run = await self._store.by_idempotency_key(principal, idempotency_key or "")
        if run is None:
            raise IdempotencyConflict("Idempotency-Key: its run was deleted", field="Idempotency-Key")
        return run

    def _refuse_bad_input(self, question: str) -> None:
        if rule := self._check_input(question):
            self._metrics.guardrail_blocks.labels(rule).inc()
            raise GuardrailBlocked(f"question: refused by the input rule `{rule}`", field="question", rule=rule)

    def _refuse_overload(self) -> None:
        waiting = len(self._tasks) - self._max_concurrent
        if waiting >= self._max_queued:
            mean = sum(self._turn_seconds) / len(self._turn_seconds)
            seconds = max(1, min(MAX_RETRY_AFTER_SECONDS, round(mean * (waiting + 1) / self._max_concurrent)))
            raise Overloaded("all places and the queue are taken", retry_after=seconds)

    # Executing

    def _spawn(self, run: Run) -> None:
        live = self._live.add(run)
        task = asyncio.create_task(self._execute(live), name=f"run-{run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.id, None))

    async def _execute(self, live: LiveRun) -> None:
        structlog.contextvars.bind_contextvars(run_id=str(live.run.id), session_id=live.run.session_id)
        started = time.monotonic()
        cancelled = not await self._take_place()
        try:
            live.run = await self._claim(live.run)
            with self._metrics.runs_in_flight.track_inprogress():
                ending = _cancel_unstarted(live) if cancelled else await self._executor.execute(live)
                await self._events.finish(live, ending)
            self._count(live, ending, time.monotonic() - started)
        finally:
            live.release()
            self._live.discard(live)
            if not cancelled:
                self._places.release()

    async def _take_place(self) -> bool:
        """False if the run was cancelled while it waited."""
        with self._metrics.runs_queued.track_inprogress():
            try:
                await self._places.acquire()
            except asyncio.CancelledError:
                return False
        return True

    async def _claim(self, run: Run) -> Run:
        while True:
            try:
                return await self._store.claim(run.id, self._holder)
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    def _count(self, live: LiveRun, ending: Ending, seconds: float) -> None:
        self._turn_seconds.append(seconds)
        self._metrics.turn_seconds.observe(seconds)
        self._metrics.runs.labels(ending.outcome).inc()
        if live.route:
            self._metrics.routes.labels(self._metrics.route_label(live.route)).inc()
        log.info("run ended", outcome=ending.outcome, seconds=round(seconds, 3), model_calls=len(live.calls))

    async def cancel(self, principal: Principal, run_id: UUID) -> Run:
        """Stops a run; a run that has ended stays as it is."""
        run = await self._store.get(run_id, principal)
        if task := self._tasks.get(run_id):
            task.cancel()
        return run

    async def drain(self, seconds: float) -> None:
        """Lets the runs of this process finish, then cancels what is left."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    # Watching

    def counts(self) -> dict[str, int]:
        in_flight = min(len(self._tasks), self._max_concurrent)
        return {"runs_in_flight": in_flight, "runs_queued": len(self._tasks) - in_flight}

    def is_live(self, run_id: UUID) -> bool:
        return self._live.get(run_id) is not None

    async def get(self, principal: Principal, run_id: UUID) -> Run:
        return await self._store.get(run_id, principal)

    async def finished(self, run_id: UUID, after: Position) -> bool:
        """Whether nothing will come after that position, of a run that is not live here."""
        events, ended = await self._events.read(run_id, after)
        return ended and not events

    async def follow(self, run_id: UUID, after: Position = START, *, idle: float = 15.0) -> AsyncIterator[list[Event]]:
        """Events after a position as they come, in batches of all that wait; an empty batch after `idle` silent seconds."""
        position = after
        if live := self._live.get(run_id):
            async for batch in _follow_memory(live, position, idle):
                yield batch
            return
        silent_since = time.monotonic()
        while True:
            events, ended = await self._events.read(run_id, position)
            if events:
                position = events[-1].position
                silent_since = time.monotonic()
                yield events
            elif ended:
                return
            elif time.monotonic() - silent_since >= idle:
                silent_since = time.monotonic()
                yield []
            await asyncio.sleep(REMOTE_POLL_SECONDS)

    async def wait(self, principal: Principal, run_id: UUID) -> Run:
        """The run once it has ended."""
        if task := self._tasks.get(run_id):
            await asyncio.wait([task])
        else:
            async for _ in self.follow(run_id):
                pass
        return await self._store.get(run_id, principal)


async def _follow_memory(live: LiveRun, position: Position, idle: float) -> AsyncIterator[list[Event]]:
    with live.watch() as watch:
        while True:
            if events := live.since(position):
                position = events[-1].position
                yield events
            if live.ended:
                return
            if not await watch.changed(idle):
                yield []


def _cancel_unstarted(live: LiveRun) -> Ending:
    ending = Ending("cancelled")
    publish_ending(live, ending)
    return ending


def _joined(run: Run, question: str) -> Run:
    if run.question != question:
        raise IdempotencyConflict("Idempotency-Key: it was used for another question", field="Idempotency-Key")
    return run
