"""What the graph does badly: tools that fail, loops that find no end."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import PERCENT, RELEASE, Alert
from slipway_monitoring.rules.expressions import increase, share_above
from slipway_monitoring.rules.scope import Scope, none_of, quoted
from slipway_monitoring.rules.thresholds import Thresholds


def alerts(limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _tool_failures(scope, limits.tool_failure_ratio, none_of("tool", limits.tool_failure_ratio_by_tool), {})
    for tool, ratio in sorted(limits.tool_failure_ratio_by_tool.items()):
        yield _tool_failures(scope, ratio, [f"tool={quoted(tool)}"], {"tool": tool})
    yield _iteration_limit(limits, scope)
    yield _feedback_fell(scope)


def _tool_failures(scope: Scope, ratio: float, matchers: list[str], labels: dict[str, str]) -> Alert:
    every = scope.select("agent_tool_calls_total", *matchers)
    bad = scope.select("agent_tool_calls_total", *matchers, 'status="error"')
    return Alert(
        name="AgentToolFailuresHigh",
        expr=share_above(scope, bad, every, ratio, 600, "tool"),
        severity="warning",
        hold=300,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of the calls of tool {{{{ $labels.tool }}}} fail",
        description=f"In 10 minutes, more than {ratio * 100:g}% of the calls of this tool ended in an error.",
        dashboard="tools-nodes",
        labels=labels,
    )


def _iteration_limit(limits: Thresholds, scope: Scope) -> Alert:
    every = scope.select("agent_runs_total")
    bad = scope.select("agent_runs_total", 'outcome="iteration_limit"')
    return Alert(
        name="AgentIterationLimitHigh",
        expr=share_above(scope, bad, every, limits.iteration_limit_ratio, 1800),
        severity="warning",
        hold=300,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of runs stop at the iteration limit",
        description=f"In 30 minutes, more than {limits.iteration_limit_ratio * 100:g}% used up their model calls or steps.",
        dashboard="tools-nodes",
    )


FELL_TO = 0.5
"""Of the share of thumbs up that the version before had."""

MISSING_THUMBS = 10
"""Thumbs up that the new version has less than the old one would have had: with fewer, half is chance."""

OLD_THUMBS = 20
"""That the versions before must have had to be compared with."""


def _feedback_fell(scope: Scope) -> Alert:
    thumbs, up = scope.select("agent_feedback_total"), scope.select("agent_feedback_total", 'score="1"')
    by = "namespace, job, version"
    # A pod has this series for its own version from its start on; thumbs it also has for older versions.
    running = f"group by ({by}) ({scope.select('agent_answers_total')})"
    day, week = scope.over(86_400), scope.over(7 * 86_400)

    def before(series: str) -> str:
        return f"sum by (namespace, job) ({increase(series, week, 'version')} unless on ({by}) {running})"

    now = increase(up, day, "version")
    expected = f"{increase(thumbs, day, 'version')} * on (namespace, job) group_left () ({before(up)} / {before(thumbs)})"
    return Alert(
        name="AgentFeedbackFell",
        expr=f"(\n  {now}\n  / ({expected})\n) < {FELL_TO}\n"
        f"and ({expected}) - {now} >= {MISSING_THUMBS}\n"
        f"and on (namespace, job) {before(thumbs)} >= {OLD_THUMBS}\n"
        f"and on ({by}) {running}",
        severity="warning",
        hold=0,
        keep=3600,
        summary=f"{RELEASE}: version {{{{ $labels.version }}}} gets {PERCENT} of the thumbs up that the version before it got",
        description="By the shares of a day's thumbs and of those that the versions before it got in a week.",
        dashboard="cost-quality",
    )
