"""What a check says: how it stands, why, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """UNKNOWN: it could not be told, which is not a pass."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Area(StrEnum):
    """A heading of the report, and a section of docs/operations/production-readiness.md."""

    HEALTH = "health"
    INFRASTRUCTURE = "infrastructure"
    RELIABILITY = "reliability"
    OBSERVABILITY = "observability"
    COST = "cost"
    SECURITY = "security"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is CamelCase and from a small set for each check; `message` holds no figure that changes by itself."""

    status: Status
    reason: str
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with the name of its check; `id` is also the type of AgentHealth's condition."""

    id: str
    area: Area
    status: Status
    reason: str
    message: str
    fix: str = ""


def ok(reason: str, message: str) -> Verdict:
    return Verdict(Status.OK, reason, message)


def warn(reason: str, message: str, fix: str) -> Verdict:
    return Verdict(Status.WARN, reason, message, fix)


def fail(reason: str, message: str, fix: str) -> Verdict:
    return Verdict(Status.FAIL, reason, message, fix)


def unknown(reason: str, message: str, fix: str = "") -> Verdict:
    return Verdict(Status.UNKNOWN, reason, message, fix)
