"""A person's decision within a call of MCP, since 2026-07-28: the answer has a form, and the call comes again with what it got.

Only people decide: the client shows the form to its user, and no tool lets the model behind it approve what it asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from agent_service.api.decisions import Approve, Decision, Reject, ResumeRequest, asks_approval
from agent_service.api.field_types import JsonObject, Lenient, Text
from agent_service.errors import InvalidRequest
from agent_service.runs.run_types import Run

KEY = "decision"
"""Of the one form."""

MAX_MESSAGE_CHARS = 4_000
"""Of what a person is shown. What is longer is decided on the chat page: nobody consents to what is cut off."""

APPROVAL = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "enum": ["approve", "reject"]},
        "reason": {"type": "string", "description": "Why not; the agent reads it."},
    },
    "required": ["decision"],
}
ANSWER = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


class Response(Lenient):
    """What a person made of the form."""

    action: Literal["accept", "decline", "cancel"]
    content: JsonObject | None = None


class Approval(Lenient):
    decision: Literal["approve", "reject"]
    reason: Text = ""


class Told(Lenient):
    answer: Text


def is_shown(capabilities: object) -> bool:
    """Whether a client with these capabilities shows forms."""
    found = capabilities.get("elicitation") if isinstance(capabilities, Mapping) else None
    return isinstance(found, Mapping) and (not found or "form" in found)


def form(run: Run) -> dict[str, Any] | None:
    """The result that asks for the decision; None for what one form cannot ask."""
    interrupts = run.interrupts or []
    if len(interrupts) != 1 or run.at_breakpoint:
        return None
    asked = interrupts[0]["value"]
    message = _wanted(asked["action_requests"]) if asks_approval(asked) else f"The agent asks: {_shown(asked)}"
    if len(message) > MAX_MESSAGE_CHARS:
        return None
    params = {"mode": "form", "message": message, "requestedSchema": APPROVAL if asks_approval(asked) else ANSWER}
    requests = {KEY: {"method": "elicitation/create", "params": params}}
    return {"resultType": "input_required", "inputRequests": requests, "requestState": str(run.id)}


def decision(responses: object, run: Run) -> ResumeRequest | None:
    """What was decided of the run; None for nothing. Raises pydantic's ValidationError, InvalidRequest."""
    if not isinstance(responses, Mapping) or KEY not in responses:
        raise InvalidRequest(f"inputResponses: expected {KEY}", field="inputResponses")
    response = Response.model_validate(responses[KEY])
    asked = run.interrupts[0]["value"] if run.interrupts else None
    if not asks_approval(asked):
        return ResumeRequest(value=Told.model_validate(response.content).answer) if response.action == "accept" else None
    if response.action == "cancel":
        return None
    said = Approval.model_validate(response.content) if response.action == "accept" else Approval(decision="reject")
    each: Decision = Approve(type="approve") if said.decision == "approve" else Reject(type="reject", message=said.reason)
    return ResumeRequest(decisions=[each] * len(asked["action_requests"]))


def _wanted(actions: Sequence[Mapping[str, Any]]) -> str:
    return "The agent wants to call " + ", and ".join(f"{a.get('name')} with {_shown(a.get('args'))}" for a in actions)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
