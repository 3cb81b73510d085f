"""What users feel: slow, failing and broken answers."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import PERCENT, RELEASE, Alert
from slipway_monitoring.rules.expressions import bound, guarded, increase, rate, share_above
from slipway_monitoring.rules.scope import Scope, none_of, quoted
from slipway_monitoring.rules.thresholds import Thresholds


def alerts(limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _slow_turns(limits, scope)
    others = none_of("route", limits.http_error_ratio_by_route)
    yield _http_errors(scope, limits.http_error_ratio, "HTTP requests", others, {})
    for route, ratio in sorted(limits.http_error_ratio_by_route.items()):
        yield _http_errors(scope, ratio, f"requests to {route}", [f"route={quoted(route)}"], {"route": route})
    yield _failing_runs(limits, scope)
    yield _stream_gaps(limits, scope)


def _slow_turns(limits: Thresholds, scope: Scope) -> Alert:
    window = scope.over(600)
    every = scope.select("agent_turn_duration_seconds_count")
    quick = scope.select("agent_turn_duration_seconds_bucket", bound(limits.turn_seconds))
    # No histogram_quantile: within a bucket it guesses, and above the highest finite bound it says that bound.
    share = f"\n  1 - {rate(quick, window)}\n  / {rate(every, window)}\n"
    slow = f"({increase(every, window)} - {increase(quick, window)})"
    return Alert(
        name="AgentTurnLatencyHigh",
        expr=guarded(share, limits.slow_turn_ratio, bad=slow, total=increase(every, window)),
        severity="critical",
        hold=300,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of turns take longer than {limits.turn_seconds:g} s",
        description=f"In 10 minutes, more than {limits.slow_turn_ratio * 100:g}% of the turns were that slow.",
        dashboard="overview",
    )


def _http_errors(scope: Scope, ratio: float, what: str, matchers: list[str], labels: dict[str, str]) -> Alert:
    every = scope.select("agent_http_requests_total", *matchers)
    bad = scope.select("agent_http_requests_total", *matchers, 'code=~"5.."')
    return Alert(
        name="AgentHttpErrorsHigh",
        expr=share_above(scope, bad, every, ratio, 300),
        severity="critical",
        hold=120,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of {what} are answered with 5xx",
        description=f"In 5 minutes, more than {ratio * 100:g}% of the {what} failed.",
        dashboard="overview",
        labels=labels,
    )


def _failing_runs(limits: Thresholds, scope: Scope) -> Alert:
    every = scope.select("agent_runs_total")
    bad = scope.select("agent_runs_total", 'outcome=~"failed|timeout"')
    return Alert(
        name="AgentRunsFailing",
        expr=share_above(scope, bad, every, limits.run_failure_ratio, 600),
        severity="critical",
        hold=120,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of runs end as failed or timeout",
        description=f"In 10 minutes, more than {limits.run_failure_ratio * 100:g}% of the runs gave their user no answer.",
        dashboard="overview",
    )


def _stream_gaps(limits: Thresholds, scope: Scope) -> Alert:
    every = scope.select("agent_stream_resumes_total")
    bad = scope.select("agent_stream_resumes_total", 'result="gap"')
    return Alert(
        name="AgentStreamGaps",
        expr=share_above(scope, bad, every, limits.stream_gap_ratio, 1800),
        severity="warning",
        hold=0,
        keep=900,
        summary=f"{RELEASE}: {PERCENT} of reconnecting streams have lost events",
        description="They came back after retention had pruned what they missed, and got the event `gap`.",
        dashboard="overview",
    )
