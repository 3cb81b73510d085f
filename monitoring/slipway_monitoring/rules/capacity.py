"""How full and how well the processes are."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import PERCENT, RELEASE, Alert
from slipway_monitoring.rules.expressions import by_pod, increase
from slipway_monitoring.rules.scope import Scope
from slipway_monitoring.rules.thresholds import Thresholds

POD = "pod {{ $labels.pod }}"
SECONDS = "{{ $value | humanizeDuration }}"


def alerts(limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _pool(limits, scope)
    yield _queue(limits, scope)
    yield _loop(limits, scope)
    yield _draining(limits, scope)
    yield _recoveries(limits, scope)


def _pool(limits: Thresholds, scope: Scope) -> Alert:
    in_use = scope.select("agent_db_pool_connections", 'state="in_use"')
    most = scope.select("agent_db_pool_connections_limit")
    average = by_pod(f"avg_over_time({in_use}[{scope.over(300)}])")
    return Alert(
        name="AgentDatabasePoolSaturated",
        expr=f"{average} / {by_pod(most)} > {limits.pool_ratio:g}",
        severity="warning",
        hold=300,
        keep=300,
        summary=f"{RELEASE}: {POD} uses {PERCENT} of its database connections",
        description="Requests wait for a connection, and are answered with 503 when the wait takes too long.",
        dashboard="overview",
    )


def _queue(limits: Thresholds, scope: Scope) -> Alert:
    queued = f"sum by (namespace, job) ({scope.select('agent_runs_queued')})"
    most = f"max by (namespace, job) ({scope.select('agent_runs_queued_limit')})"
    return Alert(
        name="AgentQueueSaturated",
        expr=f"{queued} / {most} > {limits.queue_ratio:g}",
        severity="warning",
        hold=120,
        keep=300,
        summary=f"{RELEASE}: the queue of runs is {PERCENT} full",
        description="Users wait for a place. When the queue is full, questions are refused with 503 `overloaded`.",
        dashboard="overview",
    )


def _loop(limits: Thresholds, scope: Scope) -> Alert:
    return Alert(
        name="AgentEventLoopBlocked",
        expr=f"{by_pod(scope.select('agent_event_loop_lag_seconds'))} > {limits.loop_lag_seconds:g}",
        severity="warning",
        hold=300,
        keep=300,
        summary=f"{RELEASE}: the event loop of {POD} stands still for up to {SECONDS}",
        description="Something blocks it again and again, and all streams of this pod with it.",
        dashboard="overview",
    )


def _draining(limits: Thresholds, scope: Scope) -> Alert:
    started = by_pod(f"{scope.select('agent_drain_started_timestamp_seconds')} > 0")
    allowed = by_pod(scope.select("agent_drain_limit_seconds"))
    return Alert(
        name="AgentDrainingStuck",
        expr=f"(time() - {started}) > {allowed} + {limits.drain_grace_seconds:g}",
        severity="warning",
        hold=0,
        summary=f"{RELEASE}: {POD} has been draining for {SECONDS}",
        description="Its runs should have ended or been handed over. A rollout waits for it.",
        dashboard="rollouts-keys",
    )


def _recoveries(limits: Thresholds, scope: Scope) -> Alert:
    crashed = increase(scope.select("agent_runs_recovered_total", 'reason="crash"'), scope.over(900))
    return Alert(
        name="AgentRunsRecovered",
        expr=f"{crashed} > {limits.crash_recoveries:g}",
        severity="warning",
        hold=0,
        keep=900,
        summary=f'{RELEASE}: {{{{ $value | printf "%.0f" }}}} runs were taken over from dead processes in 15 minutes',
        description="Processes die with runs. The runs go on elsewhere; users wait some seconds each time.",
        dashboard="rollouts-keys",
    )
