"""Runs from the outside: start, resume, cancel, follow, wait. Connections only watch; the worker executes."""

import hashlib
import json
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from agent_service.caller_limits import CallerLimits, CountStart
from agent_service.db.pool import until_database_answers
from agent_service.errors import (
    BudgetSpent,
    DatabaseUnavailable,
    GraphBroken,
    GuardrailBlocked,
    IdempotencyConflict,
    InvalidRequest,
    Overloaded,
    RateLimited,
    TooManyQueued,
    TooManyRuns,
    Unauthenticated,
)
from agent_service.health import RunCounts
from agent_service.metrics import Metrics
from agent_service.principal import Principal
from agent_service.question_files import QuestionFile, question_message
from agent_service.runs.budgets import Budgets
from agent_service.runs.buffer import EventBuffer
from agent_service.runs.event_log import WATCH_SECONDS, EventLog
from agent_service.runs.events import START, Event, Position
from agent_service.runs.graphs import Graphs, ServedGraph
from agent_service.runs.live_run import LiveRuns
from agent_service.runs.notices import Notices
from agent_service.runs.on_thread import OnThread
from agent_service.runs.run_rows import WITHOUT_ANSWER, Asked
from agent_service.runs.run_store import RunStore
from agent_service.runs.run_types import Run, RunInput
from agent_service.runs.worker import Worker
from agent_service.tracing.spans import Tracing


class RunService:
    """What the API may do with runs. It executes nothing itself."""

    def __init__(
        self,
        *,
        store: RunStore,
        events: EventLog,
        live: LiveRuns,
        worker: Worker,
        notices: Notices,
        metrics: Metrics,
        tracing: Tracing,
        check_input: Callable[[str], GuardrailBlocked | None],
        graphs: Graphs,
        limits: CallerLimits,
        budgets: Budgets,
        count_start: CountStart | None,
    ) -> None:
        self._store = store
        self._events = events
        self._live = live
        self._worker = worker
        self._notices = notices
        self._metrics = metrics
        self._tracing = tracing
        self._check_input = check_input
        self.graphs = graphs
        self._limits = limits
        self._budgets = budgets
        self._count_start = count_start

    # Starting

    async def start(
        self,
        principal: Principal,
        question: str,
        *,
        graph: str | None = None,
        session_id: str | None = None,
        messages: list[dict[str, Any]] | None = None,
        context: Mapping[str, object] | None = None,
        listed: bool = True,
        idempotency_key: str | None = None,
        run_id: UUID | None = None,
        follows: int | None = None,
        replaces: UUID | None = None,
        asked: tuple[object, ...] | None = None,
        files: Sequence[QuestionFile] = (),
    ) -> Run:
        """Starts a run, or joins the one that the same idempotency key or the same run id started.

        Args:
            graph: the session's own by default, and in a new one the default graph.
            run_id: of a stream token, which starts this run and no other.
            follows: runs that the session has had, or it is SessionBusy; whatever ON_BUSY says.
            replaces: an earlier question of the session (its first run), undone with all behind it.
            asked: what a retry under the same key repeats, if not these arguments.
            messages: OpenAI-style messages of the input; the question alone by default.
            context: for the graph's `Runtime.context`.
            listed: whether the session shows in lists.
            files: asked about, where the graph takes them.

        Raises:
            GuardrailBlocked, InvalidRequest, RateLimited, TooManyRuns, BudgetSpent, Overloaded, NotFound, SessionBusy,
            SessionInterrupted, OtherGraph, IdempotencyConflict
        """
        named = () if graph in {None, self.graphs.default.name} else (graph,)
        named = (*named, "replaces", str(replaces)) if replaces else named
        named = (*named, "files", [[file.name, file.data] for file in files]) if files else named
        request = _request_hash(idempotency_key or run_id, *(asked or (question, session_id, messages, context)), *named)
        if first := await self._store.first(principal, idempotency_key, run_id):
            return _joined(first, request)
        if run_id and await self._store.spent_on(run_id):
            raise Unauthenticated("the stream token has started a run before")
        served = await self._graph_for(principal, graph, session_id)
        self.refuse_bad_input("\n".join([question, *(file.name for file in files)]))
        said = messages or [question_message(question, _taken(served, files))]
        wanted = Asked(
            run_id or uuid4(),
            principal,
            question,
            _run_input(served, said, context),
            graph=served.name,
            idempotency_key=idempotency_key,
            request_hash=request,
            traceparent=self._tracing.traceparent(),
            limits=await self._counted(principal),
            files=[file.note for file in files] or None,
        )
        session = session_id or uuid4().hex
        with self._turned_away(), self._worker.place(principal) as place:
            plain = request is None and follows is None and replaces is None and not files
            if plain and (begun := await self._store.begin(wanted, session, here=place.here, listed=listed)):
                place.run, place.fresh = begun
            else:
                place.run = await self._store.start(
                    wanted, session, here=place.here, listed=listed, follows=follows, replaces=replaces
                )
        return place.run or _joined(await self._first(principal, idempotency_key, run_id), request)

    async def _graph_for(self, principal: Principal, name: str | None, session_id: str | None) -> ServedGraph:
        """The graph that is named, or the session's own. Raises InvalidRequest, OtherGraph."""
        if name is None and session_id and len(self.graphs.names) > 1:
            own = await self._store.graph_of(principal, session_id)
            return self.graphs.of_session(own) if own else self.graphs.default
        return self.graphs.named(name)

    async def start_on_thread(
        self,
        principal: Principal,
        session_id: str,
        question: str,
        run_input: RunInput,
        *,
        graph: str,
        how: OnThread,
        listed: bool,
    ) -> Run:
        """Starts a run of a client of LangGraph (runs/thread_runs.py).

        Raises:
            GuardrailBlocked, InvalidRequest, OtherGraph, RateLimited, TooManyRuns, BudgetSpent, Overloaded, SessionBusy,
            NotInterrupted, GraphBroken
        """
        if "command" in run_input or run_input.get("state") is None:
            _refuse_to_decide(self.graphs.of_session(graph))
        wanted = Asked(
            uuid4(),
            principal,
            question,
            run_input,
            graph=graph,
            traceparent=self._tracing.traceparent(),
            limits=await self._counted(principal),
        )
        with self._turned_away(), self._worker.place(principal) as place:
            plain = (
                how.tick is None
                and "checkpoint" not in run_input
                and how.delay_seconds == 0
                and not run_input.get("wire", {}).get("webhook")
                and "command" not in run_input
            )
            if plain and (begun := await self._store.begin(wanted, session_id, here=place.here, listed=listed, how=how)):
                place.run, place.fresh = begun
            else:
                place.run = await self._store.start(wanted, session_id, here=place.here, listed=listed, how=how)
        assert place.run is not None  # noqa: S101  # there is no key under which another one came first
        return place.run

    async def resume(
        self, principal: Principal, run_id: UUID, *, values: Any, by_interrupt: bool, idempotency_key: str | None = None
    ) -> Run:
        """Starts the run that carries a decision for `run_id`.

        Args:
            values: what the interrupt returns in the graph; a mapping by interrupt id if `by_interrupt`.

        Raises:
            GraphBroken: the run would end at once, and the decision with it.
        """
        interrupted = await self._store.get(run_id, principal)
        request = _request_hash(idempotency_key, str(run_id), by_interrupt, values)
        if first := await self._store.first(principal, idempotency_key):
            return _joined(first, request)
        pending = [str(item["id"]) for item in interrupted.interrupts or []]
        if by_interrupt and interrupted.interrupts and set(values) != set(pending):
            raise InvalidRequest(f"values: expected one for each of {', '.join(pending)}", field="values")
        if len(pending) > 1 and not by_interrupt:
            raise InvalidRequest(
                f"values: {len(pending)} decisions wait; give one for each of {', '.join(pending)}", field="values"
            )
        # By interrupt id also when there is one: LangGraph raises on a bare None.
        resume = {} if interrupted.at_breakpoint else values if by_interrupt else dict.fromkeys(pending, values)
        graph = self.graphs.of_session(interrupted.graph)
        _refuse_to_decide(graph)
        wanted = Asked(
            uuid4(),
            principal,
            interrupted.question,
            {"resume": resume, "context": interrupted.input.get("context")},
            graph=graph.name,
            resumes=interrupted.id,
            idempotency_key=idempotency_key,
            request_hash=request,
            traceparent=self._tracing.traceparent(),
            limits=await self._counted(principal),
        )
        with self._turned_away(), self._worker.place(principal) as place:
            place.run = await self._store.start_resume(wanted, interrupted, here=place.here)
        return place.run or _joined(await self._first(principal, idempotency_key), request)

    @contextmanager
    def _turned_away(self) -> Iterator[None]:
        """Counts who finds no room, and says when there may be some."""
        try:
            yield
        except (RateLimited, BudgetSpent) as error:
            self._metrics.rate_limited.labels("rate" if isinstance(error, RateLimited) else "budget").inc()
            raise
        except (Overloaded, TooManyQueued, TooManyRuns) as error:
            self._metrics.rate_limited.labels("runs" if isinstance(error, TooManyRuns) else "queue").inc()
            raise type(error)(error.detail, retry_after=self._worker.retry_after()) from None

    async def _counted(self, principal: Principal) -> CallerLimits:
        """What is still to be counted of a start: in Redis it is now. Raises RateLimited, BudgetSpent."""
        with self._turned_away():
            self._budgets.refuse_who_has_spent(principal)
        standing = await self._count_start(principal) if self._count_start else None
        if standing is None:
            return self._limits
        with self._turned_away():
            standing.tell()
        return replace(self._limits, per_minute=None)

    async def _first(self, principal: Principal, idempotency_key: str | None, run_id: UUID | None = None) -> Run:
        run = await self._store.first(principal, idempotency_key, run_id)
        if run is None:
            raise IdempotencyConflict("Idempotency-Key: its run was deleted", field="Idempotency-Key")
        return run

    def refuse_bad_input(self, question: str) -> None:
        """Raises GuardrailBlocked."""
        if refusal := self._check_input(question):
            self._metrics.guardrail_blocks.labels(refusal.extra["rule"]).inc()
            self._metrics.count_answer("refused")
            raise refusal

    async def cancel(self, principal: Principal, run_id: UUID, *, undo: bool = False) -> Run:
        """Stops a run wherever it executes; one that has ended stays as it is. `undo`: with what it did to its thread's state."""
        run = await self._store.get(run_id, principal)
        if run.status != "finished":
            await self._store.request_cancel(run_id, undo=undo)
            self._worker.cancel(run_id)
        return run

    async def cancel_unwatched(self, run_id: UUID) -> None:
        """Stops a run that nobody on this process watches any more."""
        if not self._live.is_watched(run_id):
            await self._store.request_cancel(run_id)
            self._worker.cancel(run_id)

    # Watching

    def counts(self) -> RunCounts:
        """For `/status`: runs that execute here, and runs accepted here that wait."""
        return {"runs_in_flight": self._worker.in_flight, "runs_queued": self._worker.queued}

    def is_live(self, run_id: UUID) -> bool:
        """Whether the run executes on this process."""
        return self._live.get(run_id) is not None

    async def get(self, principal: Principal, run_id: UUID) -> Run:
        """The principal's run with its answer. Raises NotFound."""
        return await self._store.get(run_id, principal)

    async def get_without_answer(self, principal: Principal, run_id: UUID) -> Run:
        """The same with an empty answer, which may be megabytes, for who does not show it."""
        return await self._store.get(run_id, principal, WITHOUT_ANSWER)

    async def started_by(self, principal: Principal, idempotency_key: str) -> Run | None:
        """The principal's run that the key has started, with an empty answer."""
        return await self._store.first(principal, idempotency_key)

    async def latest(self, principal: Principal, run_id: UUID) -> Run:
        """The run, or the last one that carries a decision for it, for the one before, and so on. Raises NotFound."""
        return await self._store.get(run_id, principal, latest=True)

    async def finished(self, run_id: UUID, after: Position) -> bool:
        """Whether nothing will come after that position, of a run that is not live here."""
        events, ended = await self._events.read(run_id, after)
        return ended and not events

    async def follow(self, run_id: UUID, after: Position = START, *, idle: float = 15.0) -> AsyncGenerator[list[Event], None]:
        """Events after a position as they come, in pages of what waits; an empty one after `idle` silent seconds.

        From memory if the run executes here; from the log if it executes elsewhere, or goes on after a recovery. Whoever may
        leave early closes it: until then the run is watched.
        """
        position = after
        live = self._live.get(run_id)
        if live and (live.run.attempt == 1 or after.attempt >= live.run.attempt):
            async with aclosing(_from_memory(live.said, position, idle)) as batches:
                async for batch in batches:
                    position = batch[-1].position if batch else position
                    yield batch
            if live.said.state == "stored":
                return
        async with aclosing(self._from_log(run_id, position, idle)) as batches:
            async for batch in batches:
                yield batch

    async def _read(self, run_id: UUID, position: Position) -> tuple[list[Event], bool]:
        """As the log has it; nothing new while the database is away: a stream waits with its heartbeat."""
        try:
            return await self._events.read(run_id, position)
        except DatabaseUnavailable:
            return [], False

    async def _ask_for_news(self, run_id: UUID) -> float:
        """Has the process that executes the run tell us; returns when that was."""
        with suppress(DatabaseUnavailable):
            await self._events.watch(run_id)
        return time.monotonic()

    async def _from_log(self, run_id: UUID, position: Position, idle: float) -> AsyncGenerator[list[Event], None]:
        heard = time.monotonic()
        asked = -math.inf
        with self._live.watch_log(run_id) as watch:
            while True:
                events, ended = await self._read(run_id, position)
                if events:
                    position, heard = events[-1].position, time.monotonic()
                    yield events
                elif ended:
                    return
                elif not self.is_live(run_id) and time.monotonic() - asked >= WATCH_SECONDS / 2:
                    asked = await self._ask_for_news(run_id)  # and look again: there may be some since the last look
                elif time.monotonic() - heard >= idle:
                    heard = time.monotonic()
                    yield []
                else:
                    await watch.changed(min(idle, self._notices.poll_seconds))

    async def wait(self, principal: Principal, run_id: UUID) -> bool:
        """Returns once the run has ended; always True. `ended` then has its answer."""
        if not self.is_live(run_id):
            run = await until_database_answers(lambda: self._store.get(run_id, principal, WITHOUT_ANSWER), "ended run")
            if run.status == "finished":
                return True  # its events need not be read for that
        async for _ in self.follow(run_id):
            pass
        return True

    async def ended(self, principal: Principal, run_id: UUID) -> Run:
        """The run that has ended, with its answer; waits while the database is away."""
        return await until_database_answers(lambda: self._store.get(run_id, principal), "answer")


async def _from_memory(said: EventBuffer, position: Position, idle: float) -> AsyncGenerator[list[Event], None]:
    with said.watch() as watch:
        while True:
            if events := said.since(position):
                position = events[-1].position
                yield events
            elif said.state in {"stored", "left"}:
                return
            elif not await watch.changed(idle):
                yield []


def _request_hash(key: str | UUID | None, *asked: object) -> str | None:
    """What a retry under the same key or id must repeat. Calls of two kinds differ in their number or kind of parts."""
    if key is None:
        return None
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _run_input(served: ServedGraph, messages: list[dict[str, Any]], context: Mapping[str, object] | None) -> RunInput:
    """Raises InvalidRequest: the graph takes no messages, or not this context."""
    if not served.chats:
        raise InvalidRequest(f"graph: {served.name} takes no question: its state has no `messages`", field="graph")
    return {"messages": messages, "context": served.context.of(context)}


def _taken(served: ServedGraph, files: Sequence[QuestionFile]) -> Sequence[QuestionFile]:
    """The files, if the graph takes any. Raises InvalidRequest."""
    if files and not served.takes_files:
        raise InvalidRequest(f"files: {served.name} takes none; leave them out", field="files")
    return files


def _refuse_to_decide(graph: ServedGraph) -> None:
    """Raises GraphBroken: a run that begins now ends at once, and a decision that it brings is made with it."""
    if graph.broken:
        raise GraphBroken(f"not decided, as the graph is broken; mend it, then decide again: {graph.broken}", retry_after=1)


def _joined(run: Run, request_hash: str | None) -> Run:
    if run.request_hash not in {None, request_hash}:  # None: a replica of an older version stored it
        raise IdempotencyConflict(
            "Idempotency-Key: it, or the stream token, was used for another call or content", field="Idempotency-Key"
        )
    return run
