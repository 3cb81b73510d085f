"""Conditions of a status, as every controller of Kubernetes writes them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from typing_extensions import TypedDict

from slipway_clients.clock import timestamp
from slipway_clients.egress.text import plain

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(TypedDict):
    """As it stands in a status, `metav1.Condition` of Kubernetes."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    observedGeneration: int
    lastTransitionTime: str


class ConditionedStatus(TypedDict, total=False):
    """A status that has conditions, as that of each of our kinds has."""

    observedGeneration: int
    conditions: list[Condition]


class Verdict(NamedTuple):
    """A condition before it has a time."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


MESSAGE_LIMIT = 4096
"""Characters of a condition's message, which may quote others. The API takes 32768, and nobody reads so much."""


def set_conditions(
    conditions: Iterable[Condition], verdicts: Iterable[Verdict], *, generation: int, now: datetime
) -> list[Condition]:
    """The conditions with each of the verdicts in its place, new ones at the end."""
    found = {each["type"]: each for each in conditions}
    for verdict in verdicts:
        found[verdict.type] = _condition(verdict, found.get(verdict.type), generation, now)
    return list(found.values())


def _condition(verdict: Verdict, before: Condition | None, generation: int, now: datetime) -> Condition:
    """`lastTransitionTime` moves only when the status does."""
    unchanged = before is not None and before["status"] == verdict.status
    return {
        "type": verdict.type,
        "status": verdict.status,
        "reason": verdict.reason,
        "message": plain(verdict.message, MESSAGE_LIMIT),
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and unchanged else timestamp(now),
    }


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of that type."""
    return next((each for each in conditions if each["type"] == type_), None)


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    """False, too, when there is no such condition."""
    found = find_condition(conditions, type_)
    return found is not None and found["status"] == "True"
