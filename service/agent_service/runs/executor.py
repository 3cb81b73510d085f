"""Executes one attempt at a run: drives the graph, publishes events, decides the outcome."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from agent_service.errors import GraphFailed, SlipwayError
from agent_service.metrics import Metrics
from agent_service.outcomes import OUTCOMES, Outcome
from agent_service.prices import PriceTable
from agent_service.runs.live import LiveRun
from agent_service.runs.model import Ending, Run
from agent_service.runs.tap import Tap

log = structlog.stdlib.get_logger(__name__)

STEP_LIMIT_ANSWER = "I stopped because this took more steps than a turn may have. What I found so far stands above."


@dataclass(frozen=True, slots=True)
class Executor:
    """Everything that an attempt needs. `tracer` makes LangSmith's handler for a run, when it is on."""

    graph: CompiledStateGraph[Any, Any, Any, Any]
    metrics: Metrics
    prices: PriceTable
    max_turn_seconds: float
    max_steps: int
    tracer: Callable[[], BaseCallbackHandler] | None = None

    async def execute(self, live: LiveRun) -> Ending:
        """Runs the graph to an outcome; never raises but for cancellation of the whole process."""
        run = live.run
        tap = Tap(live, self.metrics, self.prices)
        live.publish(
            "run", {"run_id": str(run.id), "session_id": run.session_id, "attempt": run.attempt, "question": run.question}
        )
        try:
            async with asyncio.timeout(self.max_turn_seconds):
                ending = await self._drive(live, tap)
        except TimeoutError:
            ending = _failure("timeout", "timeout", f"the turn took longer than {self.max_turn_seconds:g} s", retryable=True)
        except asyncio.CancelledError:
            ending = Ending("cancelled")
        except GraphRecursionError:
            live.publish_text(STEP_LIMIT_ANSWER, "")
            ending = Ending("iteration_limit")
        except SlipwayError as error:
            log.warning("run failed", code=error.code, detail=error.detail)
            ending = _failure("failed", error.code, error.detail, retryable=error.retryable)
        except Exception as error:
            log.exception("the graph raised")
            ending = _failure("failed", GraphFailed.code, f"the graph raised {type(error).__name__}", retryable=False)
        tap.settle()
        publish_ending(live, ending)
        return ending

    async def _drive(self, live: LiveRun, tap: Tap) -> Ending:
        run = live.run
        config: RunnableConfig = {
            "run_id": run.id,
            "run_name": "turn",
            "configurable": {"thread_id": run.session_id, "principal": run.principal},
            "callbacks": [tap, self.tracer()] if self.tracer else [tap],
            "recursion_limit": self.max_steps,
            "metadata": {"slipway_run_id": str(run.id), "session_id": run.session_id},
        }
        interrupts: dict[str, dict[str, Any]] = {}
        outcome: Outcome = "completed"
        async for update in self.graph.astream(graph_input(run), config, stream_mode="updates", durability="async"):
            for node, value in update.items():
                if node == "__interrupt__":
                    interrupts |= {i.id: {"id": i.id, "value": i.value} for i in value}
                elif isinstance(value, Mapping) and value.get("outcome") in OUTCOMES:
                    outcome = value["outcome"]
        return Ending("interrupted", interrupts=list(interrupts.values())) if interrupts else Ending(outcome)


def graph_input(run: Run) -> Any:
    """What the graph is given: messages for a question, a Command for a decision.

    Message ids derive from the run, so that an attempt which starts over adds nothing twice.
    """
    if "resume" in run.input:
        return Command(resume=run.input["resume"])
    messages = convert_to_messages(run.input["messages"])
    for number, message in enumerate(messages):
        message.id = hashlib.sha256(f"{run.id}:{number}".encode()).hexdigest()[:32]
    return {"messages": messages}


def _failure(outcome: Outcome, code: str, message: str, *, retryable: bool) -> Ending:
    return Ending(outcome, error={"code": code, "message": message, "retryable": retryable})


def publish_ending(live: LiveRun, ending: Ending) -> None:
    if ending.interrupts:
        live.publish("interrupt", {"interrupts": ending.interrupts})
    if ending.error:
        live.publish("error", ending.error)
    live.publish("usage", {"outcome": ending.outcome, **usage_of(live)})
    live.close()


def usage_of(live: LiveRun) -> dict[str, Any]:
    """Tokens and cost of this attempt; cost is None when a model has no price."""
    calls = live.calls
    priced = [call.cost_usd for call in calls if call.cost_usd is not None]
    return {
        "model_calls": len(calls),
        "input_tokens": sum(call.input_tokens for call in calls),
        "cached_tokens": sum(call.cached_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
        "cost_usd": round(sum(priced), 8) if len(priced) == len(calls) else None,
    }
