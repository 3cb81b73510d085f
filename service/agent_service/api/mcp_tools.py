"""The agent as a tool of MCP: what is listed, what an answer is, and what is told of a run that goes on."""

from collections.abc import Sequence
from typing import Any

from agent_service.api.field_types import Body, Question, SessionId
from agent_service.api.openai import approval_text
from agent_service.middleware.problem_details import MAX_DETAIL_CHARS, shortened
from agent_service.runs.events import Event
from agent_service.runs.run_types import Run

# Plain, as it goes into a model's list of tools, and providers differ in what they take of JSON Schema.
INPUT_SCHEMA = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "description": "What to ask, or to have done."},
        "session_id": {
            "type": "string",
            "description": "From an earlier answer: goes on with that conversation. Leave out for a new one.",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}

OUTPUT_SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "outcome": {"type": "string", "description": "`completed`, or why it stopped."},
        "session_id": {"type": "string"},
        "run_id": {"type": "string"},
        "interrupts": {"type": "array", "items": {"type": "object"}, "description": "What a person has to decide first."},
    },
    "required": ["answer", "outcome", "session_id", "run_id"],
}

FAILED = frozenset({"failed", "timeout", "cancelled"})

STOPPED = {
    "timeout": "It took longer than a turn may take.",
    "cancelled": "It was cancelled.",
    "budget": "It stopped at its budget.",
    "iteration_limit": "It stopped after as many steps as it may take.",
}
"""In place of an answer, where there is none."""


class Arguments(Body):
    """Of a call."""

    question: Question
    session_id: SessionId | None = None


def tool(name: str, description: str) -> dict[str, Any]:
    """As `tools/list` shows a graph."""
    return {
        "name": name,
        "description": description,
        "inputSchema": INPUT_SCHEMA,
        "outputSchema": OUTPUT_SCHEMA,
        # What the graph's own tools do is not known here, so it is not said to be harmless.
        "annotations": {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True},
    }


def result(run: Run) -> dict[str, Any]:
    """Of a run that has ended."""
    structured = {
        "answer": run.answer,
        "outcome": run.outcome,
        "session_id": run.session_id,
        "run_id": str(run.id),
        **({"interrupts": run.interrupts} if run.interrupts else {}),
    }
    return {"content": [_text(_said(run))], "structuredContent": structured, "isError": run.outcome in FAILED}


def failure(detail: str) -> dict[str, Any]:
    """Of a call that began nothing, in words for the model that made it."""
    return {"content": [_text(shortened(detail, MAX_DETAIL_CHARS))], "isError": True}


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def _said(run: Run) -> str:
    if run.outcome == "interrupted":
        return run.answer + approval_text(run.id, follows_text=bool(run.answer))
    if run.error:
        return run.error["message"]
    return run.answer or STOPPED.get(run.outcome or "", "")


def note(batch: Sequence[Event]) -> str | None:
    """What a person may want to know of these events: the last of what was begun; None if nothing was."""
    for event in reversed(batch):
        match event.kind:
            case "tool_start":
                return f"calls {event.payload['tool']}"
            case "node" if event.payload["state"] == "start":
                return f"is at {event.payload['node']}"
            case "text":
                return "answers"
            case "run":
                return "begins" if event.attempt == 1 else "goes on, on another replica"
    return None
