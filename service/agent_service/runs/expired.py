"""What is left to stream of a run whose events were pruned: a view of its row."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent_service.runs.live import LiveRun
from agent_service.runs.model import START, Event, Position, Run


def remaining_events(run: Run, usage: Mapping[str, Any], after: Position) -> list[Event]:
    """The events after a position: `gap`, then the answer and how the run ended.

    Their attempt follows the run's last, so that ids grow past all that were sent and each is the same every time.
    A reader who starts gets the answer as text; one who may hold a part of it gets it by `reset`.
    """
    rest = LiveRun(replace(run, attempt=run.attempt + 1))
    rest.publish("gap", {"reason": "expired"})
    rest.publish("run", {"run_id": str(run.id), "session_id": run.session_id, "attempt": run.attempt, "question": run.question})
    if after == START:
        rest.publish_text(run.answer, "")
    else:
        rest.publish("reset", {"text": run.answer})
    if run.interrupts:
        rest.publish("interrupt", {"interrupts": run.interrupts})
    if run.error:
        rest.publish("error", run.error)
    rest.publish("usage", {"outcome": run.outcome, **usage})
    rest.publish("end", "")
    return [event for event in rest.events if event.position > after]
