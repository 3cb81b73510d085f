"""AgentHealth: one release, judged by every check; the status is written when it says something new.

Figures are rounded, so that a busy release does not rewrite it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum

from agent_operator.manifests.conditions import Condition, ConditionedStatus, ConditionStatus, Verdict, set_conditions
from agent_operator.manifests.specs import AgentHealthSpec, WrongSpec, read_spec
from agent_operator.reconcile.tools import Key, Reconcile, Tools, refuse, write_status
from slipway_clients.cluster import Manifest
from slipway_clients.cluster.kinds import AGENT_HEALTH
from slipway_clients.egress.origins import OriginRefused
from slipway_doctor.checks.facts import Facts, Limits, PrometheusFacts, Rollout
from slipway_doctor.checks.figures import Figures, NoFigures
from slipway_doctor.checks.finding import Area, Finding, Status
from slipway_doctor.checks.gather import by_address, gather
from slipway_doctor.checks.registry import judge
from slipway_doctor.checks.security import key_changed

INTERVAL = 10.0
"""Seconds between two looks at a release: what changes is shown within 15 s. A look is ten small calls, and three a pod."""


class AgentHealthStatus(ConditionedStatus):
    """`status` of an AgentHealth: what `kubectl get` shows in columns, as text that is ready to be read."""

    health: str
    checks: dict[str, int]
    """Findings by what they say: ok, warn, fail, unknown."""

    ready: str
    draining: int
    inFlight: int  # noqa: N815  # the definition's name
    p99: str
    errors: str
    keyAge: str  # noqa: N815  # the definition's name
    alerts: str


def agent_health(tools: Tools) -> Reconcile:
    """`reconcile` of AgentHealth objects."""
    figures: dict[str, Figures] = {}

    def of_prometheus(spec: AgentHealthSpec) -> Figures | NoFigures | None:
        try:
            url = tools.settings.prometheus_of(spec.prometheus and spec.prometheus.url)
        except OriginRefused as error:
            return NoFigures(str(error))
        if url and url not in figures:  # as many as the operator's settings name
            figures[url] = Figures(tools.prometheus(url), tools.clock)
        return figures.get(url)

    async def reconcile(key: Key) -> float | None:
        about = await tools.cluster.get(AGENT_HEALTH, key.namespace, key.name)
        if about is None or "deletionTimestamp" in about["metadata"]:
            return None
        try:
            spec = read_spec(about, AgentHealthSpec)
        except WrongSpec as error:
            await refuse(tools, about, "InvalidSpec", str(error))
            return None
        await _look(tools, about, spec, of_prometheus(spec))
        return INTERVAL

    return reconcile


async def _look(tools: Tools, about: Manifest, spec: AgentHealthSpec, figures: Figures | NoFigures | None) -> None:
    facts = await gather(
        tools.cluster,
        tools.clock,
        by_address(tools.http),
        namespace=about["metadata"]["namespace"],
        release=spec.release,
        figures=figures,
        limits=limits_of(spec),
        rollout=Rollout(spec.rollout.version, spec.rollout.baseline or "") if spec.rollout else None,
    )
    accepted = {each.condition: each.because for each in spec.accepted}
    status = render(about, accepted, facts, judge(facts))
    await write_status(tools, about, status)
    before = about.get("status", {}).get("health")
    if before != status["health"]:
        bad = status["health"] in {Health.UNHEALTHY, Health.UNKNOWN}
        message = status["conditions"][0]["message"]
        await tools.cluster.event(about, type="Warning" if bad else "Normal", reason=status["health"], message=message)


def limits_of(spec: AgentHealthSpec) -> Limits:
    """The limits of a spec; the product's where it names none."""
    return Limits(**spec.limits.model_dump(exclude_none=True)) if spec.limits else Limits()


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


def render(about: Manifest, accepted: Mapping[str, str], facts: Facts, findings: Sequence[Finding]) -> AgentHealthStatus:
    """The whole status; times of conditions are kept from the status that `about` has.

    `accepted` has the reason by condition; such a finding is shown and does not count.
    """
    counted = [finding for finding in findings if finding.id not in accepted]
    health = overall(counted)
    conditions = _kept(about, findings)
    generation = about["metadata"]["generation"]
    prometheus = facts.prometheus if facts.prometheus and not facts.prometheus.error else None
    changed = key_changed(facts)
    verdicts = [Verdict(each.id, CONDITION[each.status], each.reason, _message(each, accepted.get(each.id))) for each in findings]
    verdicts += _summaries(health, counted)
    conditions = set_conditions(conditions, verdicts, generation=generation, now=facts.now)
    return {
        "observedGeneration": generation,
        "health": str(health),
        "checks": {status.value: n for status, n in _counts(counted).items()},
        "ready": f"{len(facts.ready)}/{facts.desired if facts.deployment else 0}",
        "draining": sum(pod.draining for pod in facts.pods),
        "inFlight": rounded_count(sum(pod.status.runs_in_flight for pod in facts.pods if pod.status)),
        "p99": _seconds(prometheus),
        "errors": _percent(prometheus),
        "keyAge": age(facts.now - changed) if changed else NONE,
        "alerts": str(len(prometheus.firing)) if prometheus else NONE,
        "conditions": sorted(conditions, key=_place),
    }


def overall(findings: Iterable[Finding]) -> Health:
    """The release as a whole, from what counts."""
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
