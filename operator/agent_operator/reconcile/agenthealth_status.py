"""From facts and findings to the status of an AgentHealth. Figures are rounded, so that a busy release does not rewrite it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

from agent_operator.manifests.conditions import Condition, ConditionStatus, Verdict, set_conditions
from slipway_doctor.checks.facts import Facts, Manifest, PrometheusFacts
from slipway_doctor.checks.finding import Area, Finding, Status
from slipway_doctor.checks.security import key_changed


class Health(StrEnum):
    """Unhealthy: users notice now. Warning: all is well, and something will break or surprise later."""

    HEALTHY = "Healthy"
    WARNING = "Warning"
    UNHEALTHY = "Unhealthy"
    UNKNOWN = "Unknown"


CONDITION: Mapping[Status, ConditionStatus] = {
    Status.OK: "True",
    Status.WARN: "False",
    Status.FAIL: "False",
    Status.UNKNOWN: "Unknown",
}

SUMMARY: Mapping[Health, ConditionStatus] = {
    Health.HEALTHY: "True",
    Health.WARNING: "True",
    Health.UNHEALTHY: "False",
    Health.UNKNOWN: "Unknown",
}

SUMMARIES = ("Healthy", "Ready")
"""Conditions beside those of the checks, in their order."""

NONE = "-"
"""In a column whose figure is not known, or means nothing without traffic."""


def render(about: Manifest, facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """The whole status; times of conditions are kept from the status that `about` has."""
    accepted = {each["condition"]: each["because"] for each in about["spec"].get("accepted") or ()}
    counted = [finding for finding in findings if finding.id not in accepted]
    health = overall(counted)
    conditions = _kept(about, findings)
    generation = about["metadata"]["generation"]
    verdicts = [Verdict(each.id, CONDITION[each.status], each.reason, _message(each, accepted.get(each.id))) for each in findings]
    verdicts += _summaries(health, counted)
    conditions = set_conditions(conditions, verdicts, generation=generation, now=facts.now)
    return {
        "observedGeneration": generation,
        "health": str(health),
        "checks": {status.value: n for status, n in _counts(counted).items()},
        **_figures(facts),
        "conditions": sorted(conditions, key=_place),
    }


def overall(findings: Iterable[Finding]) -> Health:
    found = list(findings)
    if any(f.area is Area.HEALTH and f.status is Status.FAIL for f in found):
        return Health.UNHEALTHY
    if any(f.id == "PodsReady" and f.status is Status.UNKNOWN for f in found):
        return Health.UNKNOWN
    if any(f.status in {Status.WARN, Status.FAIL} for f in found):
        return Health.WARNING
    return Health.HEALTHY


def worst(findings: Iterable[Finding]) -> list[Finding]:
    """What is not well, what hurts most first."""
    bad = [f for f in findings if f.status in {Status.WARN, Status.FAIL}]
    return sorted(bad, key=lambda f: (f.area is not Area.HEALTH, f.status is not Status.FAIL))


def _kept(about: Manifest, findings: Sequence[Finding]) -> list[Condition]:
    """Conditions of the last status, without those of checks that there are no more."""
    known = {*SUMMARIES, *(finding.id for finding in findings)}
    return [c for c in about.get("status", {}).get("conditions", []) if c["type"] in known]


def _message(finding: Finding, because: str | None) -> str:
    parts = [finding.message]
    if finding.fix:
        parts.append(f"Fix: {finding.fix}")
    if because:
        parts.append(f"Accepted: {because}")
    return ". ".join(parts)


def _counts(findings: Iterable[Finding]) -> dict[Status, int]:
    counts = Counter(finding.status for finding in findings)
    return {status: counts[status] for status in Status}


def _summaries(health: Health, findings: Sequence[Finding]) -> list[Verdict]:
    """`Healthy`: whether users are served well now, and what to look at first. `Ready` says only that we looked.

    `helm --wait`, Flux and others wait for a condition Ready: a release that is ill must not hold up the upgrade that mends it.
    """
    bad = worst(findings)
    reason = bad[0].reason if bad else str(health)
    message = "; ".join(f"{f.id}: {f.message}" for f in bad[:3]) or "every check is well"
    if more := len(bad[3:]):
        message += f"; and {more} more"
    looked = "the release is looked at every few seconds"
    return [Verdict("Healthy", SUMMARY[health], reason, message), Verdict("Ready", "True", "Evaluated", looked)]


def _place(condition: Condition) -> int:
    """Summaries in front."""
    return SUMMARIES.index(condition["type"]) if condition["type"] in SUMMARIES else len(SUMMARIES)


def _figures(facts: Facts) -> dict[str, Any]:
    prometheus = facts.prometheus if facts.prometheus and not facts.prometheus.error else None
    in_flight = sum(int(pod.status.get("runs_in_flight", 0)) for pod in facts.pods if pod.status)
    changed = key_changed(facts)
    return {
        "ready": f"{len(facts.ready)}/{facts.desired if facts.deployment else 0}",
        "draining": sum(pod.draining for pod in facts.pods),
        "inFlight": rounded_count(in_flight),
        "p99": _seconds(prometheus),
        "errors": _percent(prometheus),
        "keyAge": age(facts.now - changed) if changed else NONE,
        "alerts": str(len(prometheus.firing)) if prometheus else NONE,
    }


def rounded_count(count: int) -> int:
    """Exact up to 20, then in steps: 23 is 25, 118 is 120, 1234 is 1200."""
    step = 1
    for limit, size in ((20, 5), (100, 10), (1000, 100)):
        step = size if count > limit else step
    return round(count / step) * step


def _seconds(prometheus: PrometheusFacts | None) -> str:
    if prometheus is None or prometheus.p99_seconds is None:
        return NONE
    seconds = prometheus.p99_seconds
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"  # noqa: PLR2004  # two digits say enough


def _percent(prometheus: PrometheusFacts | None) -> str:
    if prometheus is None or prometheus.error_ratio is None:
        return NONE
    percent = prometheus.error_ratio * 100
    return f"{percent:.0f}%" if percent >= 1 or percent == 0 else f"{percent:.1f}%"


def age(since: timedelta) -> str:
    """As kubectl shows ages: days, or hours on the first day."""
    return f"{since.days}d" if since.days else f"{int(since.total_seconds() // 3600)}h"
