"""Executes one attempt at a run: drives the graph, publishes events, decides the outcome."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.types import Command, Send

from agent_service.db.pool import until_database_answers
from agent_service.errors import BudgetSpent, GraphFailed, LeaseLost, SlipwayError
from agent_service.logs import frames
from agent_service.metrics import Metrics
from agent_service.outcomes import OUTCOMES, Outcome
from agent_service.prices import PriceTable
from agent_service.runs import events
from agent_service.runs.budgets import Budgets, Gate
from agent_service.runs.callback_handler import RunCallbackHandler
from agent_service.runs.checkpoints import CURRENT_LIVE
from agent_service.runs.cut_off import cut_off
from agent_service.runs.events import Event
from agent_service.runs.graphs import Graphs, ServedGraph
from agent_service.runs.history import mend
from agent_service.runs.live_run import LiveRun, StopReason
from agent_service.runs.recorder import MESSAGE_MODES, GraphRecorder
from agent_service.runs.recovery import Checkpointed, Graph, checkpointed, goes_on, kept_text, next_nodes
from agent_service.runs.response_cache import ResponseCache
from agent_service.runs.run_types import BREAKPOINT, CommandInput, Ending, Interrupt, ModelCall, Run, used
from agent_service.runs.writer import REFUSED
from agent_service.user_code import one_line, said_at

log = structlog.stdlib.get_logger(__name__)

ATTEMPTS_OF_THE_LIVING = 10
"""Times MAX_ATTEMPTS: a run that blocks its process for longer than a lease kills nobody, and must not go round for ever."""

STOPPED: Mapping[StopReason | None, Ending] = {"cancel": Ending("cancelled"), "refused": Ending("failed", REFUSED)}
"""How a run ends that was stopped, if it ends here."""

MESSAGE_CHARS = 2_000
"""Of an error's message in a line of the log."""

STEP_LIMIT_ANSWER = "I stopped because this took more steps than a turn may have. What I found so far stands above."


@dataclass(frozen=True, slots=True)
class Executor:
    """Everything that an attempt needs. `tracer` makes LangSmith's handler for a run, when it is on."""

    graphs: Graphs
    metrics: Metrics
    prices: Callable[[], PriceTable]
    """The table in force: a run is priced by the one of its beginning."""
    max_turn_seconds: float
    max_steps: int
    max_attempts: int
    budgets: Budgets
    log_content: bool
    """Whether messages of errors are logged: they may quote a question, an answer or a key."""
    tell_developer: bool
    """Whether callers are told what a graph raised, with the line of its code."""
    history: Callable[[Run], Awaitable[list[Event]]]
    """Reads the logged events of a run's earlier attempts."""
    billed: Callable[[Run], Awaitable[list[ModelCall]]]
    """Reads the model calls that earlier attempts have put into the ledger."""
    roll_back: Callable[[str, Sequence[str], UUID], Awaitable[None]]
    """Undoes what runs of a thread did."""
    tracer: Callable[[], BaseCallbackHandler] | None = None
    cache: ResponseCache | None = None

    async def execute(self, live: LiveRun) -> Ending | None:
        """Runs the graph to an outcome; None when the run stopped here without one: it was handed over or lost."""
        record = live.run.input.get("record", ())
        handler = RunCallbackHandler(live, self.metrics, self.prices(), record_messages=not MESSAGE_MODES.isdisjoint(record))
        limit = asyncio.timeout(self.max_turn_seconds)
        try:
            async with limit:
                ending = await self._attempt(live, handler)
        except (GraphDrained, LeaseLost):
            ending = None
        except asyncio.CancelledError:
            ending = STOPPED.get(live.stop)
        except Exception as error:
            ending = self._timed_out() if limit.expired() else self._failure(live, error)
        handler.settle()
        if ending:
            _publish(live, ending)
        return ending

    def _timed_out(self) -> Ending:
        return _failed("timeout", "timeout", f"the turn took longer than {self.max_turn_seconds:g} s", retryable=True)

    def _failure(self, live: LiveRun, error: Exception) -> Ending:
        match error:
            case GraphRecursionError():
                live.said.publish_text(f"\n\n{STEP_LIMIT_ANSWER}" if live.said.text else STEP_LIMIT_ANSWER, "")
                return Ending("iteration_limit")
            case BudgetSpent():
                return _failed("budget", error.code, error.detail, retryable=True)
            case SlipwayError():
                log.warning("run_failed", code=error.code, detail=error.detail, **self._content(error))
                return _failed("failed", error.code, error.detail, retryable=error.retryable)
        where = said_at(error).strip(" ()")
        log.error("graph_raised", error=type(error).__name__, where=where, at=frames(error), **self._content(error))
        raised = f"{one_line(error)[:MESSAGE_CHARS]}{said_at(error)}" if self.tell_developer else type(error).__name__
        return _failed("failed", GraphFailed.code, f"the graph raised {raised}", retryable=False)

    def _content(self, error: Exception) -> dict[str, str]:
        message = getattr(error, "message", None) or str(error)
        return {"message": message[:MESSAGE_CHARS]} if self.log_content else {}

    async def _attempt(self, live: LiveRun, handler: RunCallbackHandler) -> Ending:
        run = live.run
        history = await self._bill_the_dead(live, handler) if run.attempt > 1 else []
        if live.stopped:  # before its task's first step, when cancelling the task would have run none of it
            raise asyncio.CancelledError
        live.said.publish(events.run(run))
        if run.cancel_requested:
            return Ending("cancelled")
        if run.crashes >= self.max_attempts:
            return _failed(
                "failed", "too_many_attempts", f"{run.crashes} processes died or stood still executing this run", retryable=False
            )
        if run.attempt > self.max_attempts * ATTEMPTS_OF_THE_LIVING:
            message = f"{run.attempt - 1} attempts at this run were lost or handed over"
            return _failed("failed", "too_many_attempts", message, retryable=False)
        served = self.graphs.by_name.get(run.graph)
        if served is None or served.broken:
            return _without_graph(run, served)
        graph = served.graph
        # A client of LangGraph may read each of them, a developer too.
        live.every_state = "record" in run.input or self.tell_developer or served.needs_every_state
        live.asks_first = not served.begins_with_work
        told: list[BaseCallbackHandler] = [handler, *live.trace.handlers(), *([self.tracer()] if self.tracer else [])]
        if undone := run.input.get("rolls_back"):
            await until_database_answers(lambda: self.roll_back(run.thread_id, undone, run.id), "rollback")
        config = self._config(graph, live, [*told, Gate(self.budgets, live, told, handler.sent)])
        recorder = GraphRecorder(live, run.input.get("record", ()), subgraphs=bool(run.input.get("subgraphs")))
        said: set[str] = set()
        starts = run.attempt == 1
        if starts:
            given = await self._begin(graph, live, config, handler)
        else:
            saved = await self._recover(graph, live, config, handler, history)
            recorder.resumed(saved.checkpoint_id, saved.messages)
            if saved.stopped_before:
                return _at_breakpoint(saved.stopped_before)
            starts = not saved.started
            given = graph_input(run, saved.waiting, commanded=saved.commanded) if starts else None
            said = saved.messages
        if starts:  # an attempt that goes on has made states of its own behind that one
            config["configurable"] |= run.input.get("checkpoint", {})
        given = await self._mended(graph, run, given, config)
        drive = partial(self._drive, graph, live, handler, recorder, given, config)
        return await (
            self.cache.through(served, live, config, given, said, drive) if self.cache and not undone else drive()
        )  # who asks the same again wants another answer

    def _config(self, graph: Graph, live: LiveRun, callbacks: list[BaseCallbackHandler]) -> RunnableConfig:
        """What a caller may set, and behind it what nobody may."""
        run, asked = live.run, live.run.input.get("config", {})
        steps = (asked.get("recursion_limit"), (graph.config or {}).get("recursion_limit"), self.max_steps)
        ours = {"thread_id": run.thread_id, "principal": run.principal, CURRENT_LIVE: live}
        return {
            "run_id": run.id,
            "run_name": "turn",
            "tags": asked.get("tags", []),
            "metadata": {**asked.get("metadata", {}), "run_id": str(run.id)},
            "configurable": {**asked.get("configurable", {}), **ours},
            "callbacks": callbacks,
            "recursion_limit": min(limit for limit in steps if limit),
            "max_concurrency": asked.get("max_concurrency"),
        }

    async def _begin(self, graph: Graph, live: LiveRun, config: RunnableConfig, handler: RunCallbackHandler) -> Any:
        if goes_on(live.run):
            # What was said before the decision is not to be said again when a node returns it beside the rest.
            _go_on(live, handler, await checkpointed(graph, config, live.run))
        return graph_input(live.run)

    async def _bill_the_dead(self, live: LiveRun, handler: RunCallbackHandler) -> list[Event]:
        """Bills what the attempts before have used and not put into the ledger, as their processes died. Returns their events."""
        history = await until_database_answers(lambda: self.history(live.run), "history")
        live.billed = await until_database_answers(lambda: self.billed(live.run), "ledger")
        handler.bill_found(cut_off(history, {(call.attempt, call.call) for call in live.billed}))
        await self.budgets.release(live)
        return history

    async def _recover(
        self, graph: Graph, live: LiveRun, config: RunnableConfig, handler: RunCallbackHandler, history: list[Event]
    ) -> Checkpointed:
        """Where the attempts before came to. Tells readers which text still stands."""
        saved = await checkpointed(graph, config, live.run)
        if saved.started:
            live.route = live.route or saved.route
        _go_on(live, handler, saved)
        live.sourced = live.sourced or any(event.payload.get("sources") for event in history if event.kind == "tool_end")
        live.said.reset(kept_text(history, saved.messages))
        return saved

    async def _mended(self, graph: Graph, run: Run, given: Any, config: RunnableConfig) -> Any:
        """The question behind whatever makes the history of a session whose last run was stopped valid again."""
        if not (run.input.get("mend") and isinstance(given, dict) and "messages" in given):
            return given
        latest = await graph.aget_state(config)
        # By its id: without, LangGraph shows what tasks of the stopped step had written, and drops that at the next input.
        state = await graph.aget_state({"configurable": {**config["configurable"], **latest.config["configurable"]}})
        history = state.values.get("messages") if isinstance(state.values, Mapping) else None
        missing = mend(history) if isinstance(history, list) else []
        said = given["messages"]
        return {**given, "messages": [*missing, *(said if isinstance(said, list) else [said])]} if missing else given

    async def _drive(
        self,
        graph: Graph,
        live: LiveRun,
        handler: RunCallbackHandler,
        recorder: GraphRecorder,
        given: Any,
        config: RunnableConfig,
    ) -> Ending:
        interrupts: dict[str, Interrupt] = {}
        outcome: Outcome = "completed"
        stopped = False
        update: Any
        async for place, mode, update in _stream(graph, live, recorder, given, config):
            if mode == "custom":
                live.said.publish(events.custom(update, place))
                continue
            recorder.take(place, mode, update)
            if mode != "updates":
                continue
            _tell_cached(handler, update)
            if place:
                continue
            for node, value in update.items():
                if node == "__interrupt__":
                    stopped = True
                    interrupts |= {i.id: {"id": i.id, "value": i.value} for i in value}
                elif isinstance(value, Mapping) and value.get("outcome") in OUTCOMES:
                    outcome = value["outcome"]
        recorder.end()
        if interrupts:
            return Ending("interrupted", interrupts=list(interrupts.values()))
        return _at_breakpoint(await next_nodes(graph, config)) if stopped else Ending(outcome)


def _go_on(live: LiveRun, handler: RunCallbackHandler, saved: Checkpointed) -> None:
    """From what an attempt before, or the run that asked, has said: it is not said again, and counts when the turn is rated."""
    handler.keep(saved.messages)
    if saved.started or goes_on(live.run):  # else it is of the turn before
        live.sourced, live.refused = saved.sourced, saved.refused


def _stream(
    graph: Graph, live: LiveRun, recorder: GraphRecorder, given: Any, config: RunnableConfig
) -> AsyncIterator[tuple[tuple[str, ...], str, Any]]:
    """Items of the graph's stream: namespace, mode, data."""
    asked = live.run.input
    record: list[str] = asked.get("record", [])
    how: dict[str, Any] = {
        "context": asked.get("context"),
        "stream_mode": ["updates", "custom", *recorder.modes],
        "subgraphs": True,  # or a writer in a subgraph goes nowhere
        "durability": "async",
        "control": live.control,
    }
    for name, nodes in (
        ("interrupt_before", asked.get("interrupt_before")),
        ("interrupt_after", asked.get("interrupt_after")),
    ):
        if nodes:
            how[name] = "*" if "*" in nodes else nodes
    if "events" in record:
        return _with_events(graph.astream_events(given, config, version="v2", **how), live.run.id)
    return graph.astream(given, config, **how)


def _tell_cached(handler: RunCallbackHandler, update: Mapping[str, Any]) -> None:
    if update.get("__metadata__", {}).get("cached"):
        for node in update.keys() - {"__metadata__"}:
            handler.cached(node, update[node])


async def _with_events(found: AsyncIterator[Any], run_id: UUID) -> AsyncIterator[tuple[tuple[str, ...], str, Any]]:
    """LangChain's events of a run, among what the graph itself streams."""
    async for event in found:
        if event["run_id"] == str(run_id) and event["event"] == "on_chain_stream":
            yield event["data"]["chunk"]
        else:
            yield (), "events", event


def _at_breakpoint(nodes: list[str]) -> Ending:
    """LangGraph tells of a static breakpoint (`interrupt_before`, `interrupt_after`) by an interrupt without a value."""
    return Ending("interrupted", interrupts=[{"id": BREAKPOINT, "value": {"next": nodes}}])


def graph_input(run: Run, waiting: Container[str] | None = None, *, commanded: bool = False) -> Any:
    """What the graph is given: messages for a question, a Command for a decision; None when all of it was given before.

    Args:
        waiting: ids of the interrupts that still wait, when the run is not at its first attempt. A node may have been
            given its answer and have asked again: that is another question, which this answer is not for.
        commanded: see `_command`.

    Message ids derive from the run, so that an attempt which starts over adds nothing twice.
    """
    if "resume" in run.input:
        answers = run.input["resume"]
        resume = answers if waiting is None else {key: value for key, value in answers.items() if key in waiting}
        return Command(resume=resume) if resume else None
    if "command" in run.input:
        return _command(run.input["command"], waiting, commanded=commanded)
    if "state" in run.input:
        return _with_ids(run, run.input["state"])
    messages = convert_to_messages(run.input["messages"])
    for number, message in enumerate(messages):
        message.id = _message_id(run, number)
    return {"messages": messages}


def _message_id(run: Run, number: int) -> str:
    return hashlib.sha256(f"{run.id}:{number}".encode()).hexdigest()[:32]


def _with_ids(run: Run, state: Any) -> Any:
    """The messages in it with an id each: an attempt that starts over is to add nothing twice."""
    if not (isinstance(state, dict) and isinstance(state.get("messages"), list)):
        return state
    try:
        messages = convert_to_messages(state["messages"])
    except (ValueError, NotImplementedError):  # the graph has messages of its own kind
        return state
    for number, message in enumerate(messages):
        message.id = message.id or _message_id(run, number)
    return {**state, "messages": messages}


def _command(asked: CommandInput, waiting: Container[str] | None, *, commanded: bool) -> Command[Any] | None:
    """LangGraph's, without an answer to what has been answered; None when nothing is left of it.

    `commanded`: its changes and where to go on stand beside the checkpoint already, and would be done twice.
    """
    given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    resume = given.get("resume")
    if waiting is not None and isinstance(resume, dict) and asked.get("by_interrupt"):
        given["resume"] = {key: value for key, value in resume.items() if key in waiting}
    given.pop("by_interrupt", None)
    if commanded:
        given = {key: value for key, value in given.items() if key == "resume"}
    if "goto" in given:
        given["goto"] = _targets(given["goto"])
    return Command(**given) if any(given.values()) else None


def _targets(goto: Any) -> Any:
    """A node's name, or what it is to be sent."""
    if isinstance(goto, list):
        return [_targets(item) for item in goto]
    return Send(goto["node"], goto.get("input")) if isinstance(goto, dict) else goto


def _without_graph(run: Run, served: ServedGraph | None) -> Ending:
    if served is None:
        return _failed("failed", "graph_not_served", f"nobody serves the graph {run.graph} any more", retryable=False)
    return _failed("failed", GraphFailed.code, served.broken, retryable=False)


def _failed(outcome: Outcome, code: str, message: str, *, retryable: bool) -> Ending:
    return Ending(outcome, error={"code": code, "message": message, "retryable": retryable})


def _publish(live: LiveRun, ending: Ending) -> None:
    if ending.interrupts:
        live.said.publish(events.interrupt(ending.interrupts))
    if ending.error:
        live.said.publish(events.error(ending.error))
    spent = used((*live.billed, *live.calls))
    if live.cached:
        spent["cached_answer"] = True
    live.said.publish(events.usage(ending.outcome, spent))
    live.said.publish(events.end())
