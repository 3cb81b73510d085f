"""Whether anything can be said at all: targets, their metrics, and what they depend on."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import RELEASE, Alert
from slipway_monitoring.rules.expressions import by_pod, increase
from slipway_monitoring.rules.scope import Scope
from slipway_monitoring.rules.thresholds import Thresholds


def alerts(_: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _absent(scope)
    yield _down(scope)
    yield _dependency(scope)
    yield _redis(scope)


def _absent(scope: Scope) -> Alert:
    return Alert(
        name="AgentMetricsAbsent",
        expr=f"absent({scope.select('agent_http_requests_total')})",
        severity="critical",
        hold=300,
        summary=f"{RELEASE}: Prometheus has no metrics of this release",
        description="No pod runs, or none is scraped. Every other alert of the release is blind meanwhile.",
        dashboard="overview",
    )


def _down(scope: Scope) -> Alert:
    return Alert(
        name="AgentTargetDown",
        expr=f"{by_pod(scope.select('up'))} == 0",
        severity="warning",
        hold=300,
        keep=120,
        summary=f"{RELEASE}: pod {{{{ $labels.pod }}}} does not answer Prometheus",
        description="Its ops port is served by a thread of its own: the process is gone, stopped or cut off.",
        dashboard="overview",
    )


def _dependency(scope: Scope) -> Alert:
    reached = f"max by (namespace, job, dependency) ({scope.select('agent_dependency_up')})"
    return Alert(
        name="AgentDependencyDown",
        expr=f"{reached} == 0",
        severity="critical",
        hold=120,
        keep=120,
        summary=f"{RELEASE}: no pod reaches {{{{ $labels.dependency }}}}",
        description="Without the database, runs wait and new questions get 503. Without the model endpoint, runs fail.",
        dashboard="overview",
    )


def _redis(scope: Scope) -> Alert:
    missed = increase(scope.select("agent_redis_fallbacks_total"), scope.over(120))
    return Alert(
        name="AgentRedisAway",
        expr=f"{missed} > 0",
        severity="warning",
        hold=180,  # longer than the window: one missed command is no outage
        keep=300,
        summary=f"{RELEASE}: Redis does not answer",
        description="PostgreSQL counts the rate and has the cached answers meanwhile. No run fails; callers may begin more.",
        dashboard="cost-quality",
    )
