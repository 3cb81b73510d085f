"""Conditions of a status, as every controller of Kubernetes writes them."""

from datetime import datetime
from typing import Any, Literal

from agent_operator.clock import timestamp
from agent_operator.egress.text import plain

Condition = dict[str, Any]
Status = Literal["True", "False", "Unknown"]

MESSAGE_LIMIT = 4096
"""Characters of a condition's message, which may quote others. The API takes 32768, and nobody reads so much."""


def set_condition(
    conditions: list[Condition], type_: str, status: Status, reason: str, message: str, *, generation: int, now: datetime
) -> list[Condition]:
    """The list with this condition in its place. `lastTransitionTime` moves only when the status does."""
    before = find_condition(conditions, type_)
    unchanged = before is not None and before["status"] == status
    condition = {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": plain(message, MESSAGE_LIMIT),
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and unchanged else timestamp(now),
    }
    if before is None:
        return [*conditions, condition]
    return [condition if each["type"] == type_ else each for each in conditions]


def find_condition(conditions: list[Condition], type_: str) -> Condition | None:
    return next((each for each in conditions if each["type"] == type_), None)


def is_true(conditions: list[Condition], type_: str) -> bool:
    found = find_condition(conditions, type_)
    return found is not None and found["status"] == "True"
