"""What is left to stream of a run whose events were pruned: a view of its row."""

from agent_service.runs import events
from agent_service.runs.buffer import EventBuffer
from agent_service.runs.events import START, Event, Position
from agent_service.runs.run_types import Run, RunUsage


def remaining_events(run: Run, usage: RunUsage, after: Position) -> list[Event]:
    """The events after a position: `gap`, then the answer and how the run ended.

    Their attempt follows the run's last, so that ids grow past all that were sent and each is the same every time.
    A reader who starts gets the answer as text; one who may hold a part of it gets it by `reset`.
    """
    rest = EventBuffer(run.attempt + 1)
    rest.publish(events.gap("expired"))
    rest.publish(events.run(run))
    if after == START:
        rest.publish_text(run.answer, "")
    else:
        rest.publish(events.reset(run.answer))
    if run.interrupts:
        rest.publish(events.interrupt(run.interrupts))
    if run.error:
        rest.publish(events.error(run.error))
    rest.publish(events.usage(run.outcome, usage))
    rest.publish(events.end())
    return [event for event in rest.events if event.position > after]
