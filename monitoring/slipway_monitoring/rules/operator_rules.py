"""Alerts on the operator itself, and on objects whose conditions say that somebody has to look."""

from collections.abc import Iterator
from typing import Any

from slipway_monitoring.rules.alert import LINKS, Alert, Links, as_rule
from slipway_monitoring.rules.scope import FULL_LENGTH, Scope, Selector, Windows, quoted

OBJECT = "{{ $labels.namespace }}/{{ $labels.name }}"

FAILURES = 5
"""Of one kind and reason in 15 minutes. Conflicts and a restart of the API server cost one or two."""

OVERDUE = 3600
"""Seconds after its time that a rotation may begin: a window or a lost node may hold it up."""


def render_operator(*, selector: Selector, links: Links = LINKS, windows: Windows = FULL_LENGTH) -> list[dict[str, Any]]:
    """Groups of the alerts of one release of the operator."""
    scope = Scope(selector, windows)
    topics = {"process": _process(scope), "objects": _objects(scope)}
    return [
        {"name": f"slipway-operator.{name}", "rules": [as_rule(alert, scope, links) for alert in alerts]}
        for name, alerts in topics.items()
    ]


def _process(scope: Scope) -> Iterator[Alert]:
    select, over = scope.select, scope.over
    yield Alert(
        name="SlipwayOperatorDown",
        expr=f"absent({select('slipway_operator_build_info')})",
        severity="warning",
        hold=600,
        summary="{{ $labels.namespace }}/{{ $labels.job }}: Prometheus sees no operator",
        description="Keys are not rotated, rules not repaired and health not reported. Agents serve on.",
        dashboard="operator",
    )
    yield Alert(
        name="SlipwayOperatorReconcileFailing",
        expr=f"sum by (namespace, job, kind, reason) (increase({_errors(scope)}[{over(900)}])) >= {FAILURES}",
        severity="warning",
        hold=300,
        keep=300,
        summary="{{ $labels.kind }} objects cannot be brought in line: {{ $labels.reason }}",
        description="forbidden: a role is missing. unavailable: the API server. invalid: an object. internal: a fault of ours.",
        dashboard="operator",
    )
    yield Alert(
        name="SlipwayOperatorBehind",
        expr=f"min by (namespace, job) (min_over_time({select('slipway_operator_queue_depth')}[{over(600)}])) > 0",
        severity="warning",
        hold=300,
        summary="{{ $value }} objects wait for a worker of the operator",
        description="Never empty for 10 minutes: the API server, Prometheus or a provider is slow, or `workers` too small.",
        dashboard="operator",
    )
    yield Alert(
        name="SlipwayOperatorWithoutLease",
        expr=f"max by (namespace, job) ({select('slipway_operator_lease_held')}) == 0",
        severity="critical",
        hold=300,
        summary="The operator does not hold the Lease of a namespace",
        description="Another operator does, or the Lease cannot be written: this one attends to none of its objects meanwhile.",
        dashboard="operator",
    )
    yield Alert(
        name="SlipwayOperatorWatchStale",
        expr=f"max by (namespace, job) ({select('slipway_operator_watch_stale')}) > 0",
        severity="warning",
        hold=600,
        summary="The operator's watch has not told of {{ $value }} changed objects",
        description="Its probe fails on that, and the kubelet restarts it: this alert means that the restart did not help.",
        dashboard="operator",
    )


def _objects(scope: Scope) -> Iterator[Alert]:
    yield Alert(
        name="SlipwayRotationStuck",
        expr=f"max by (namespace, job, name) ({_about('rotation_stuck', scope)}) == 1",
        severity="critical",
        hold=60,
        summary=f"KeyRotation {OBJECT} is past its deadline",
        description="The old key is not revoked and still works. `kubectl describe keyrotation` names the pods or the error.",
        dashboard="operator",
    )
    yield Alert(
        name="SlipwayRotationOverdue",
        expr=f"time() - max by (namespace, job, name) ({_about('rotation_next_timestamp_seconds', scope)} > 0) > {OVERDUE}",
        severity="warning",
        hold=300,
        summary=f"KeyRotation {OBJECT} should have begun {{{{ $value | humanizeDuration }}}} ago",
        description="It is paused, outside its windows, or the operator cannot begin it.",
        dashboard="operator",
    )
    ready = 'condition="Ready"'
    yield Alert(
        name="SlipwayObjectNotReady",
        expr=f"max by (namespace, job, kind, name) ({_about('condition', scope, ready)}) == 0",
        severity="warning",
        hold=900,
        keep=300,
        summary=f"{{{{ $labels.kind }}}} {OBJECT} is not ready",
        description="Its condition Ready has reason and fix.",
        dashboard="operator",
    )
    missing = 'kind="AlertPolicy",condition="MetricsExist"'
    yield Alert(
        name="SlipwayAlertsBlind",
        expr=f"max by (namespace, job, kind, name) ({_about('condition', scope, missing)}) == 0",
        severity="warning",
        hold=1800,
        summary=f"AlertPolicy {OBJECT} has rules on metrics that Prometheus has never seen",
        description="Those alerts cannot fire. Is the release scraped? The condition MetricsExist names the metrics.",
        dashboard="operator",
    )


def _errors(scope: Scope) -> str:
    return scope.select("slipway_operator_reconcile_errors_total", 'reason!="conflict"')


def _about(metric: str, scope: Scope, *matchers: str) -> str:
    """Series about an object: their `namespace` is the object's, so the operator is told by its job alone."""
    return f"slipway_operator_{metric}{{{','.join((f'job={quoted(scope.select.job)}', *matchers))}}}"
