"""What the graph does badly: tools that fail, loops that find no end."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import PERCENT, RELEASE, Alert
from slipway_monitoring.rules.expressions import share_above
from slipway_monitoring.rules.scope import Scope, none_of, quoted
from slipway_monitoring.rules.thresholds import Thresholds


def alerts(limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _tool_failures(scope, limits.tool_failure_ratio, none_of("tool", limits.tool_failure_ratio_by_tool), {})
    for tool, ratio in sorted(limits.tool_failure_ratio_by_tool.items()):
        yield _tool_failures(scope, ratio, [f"tool={quoted(tool)}"], {"tool": tool})
    yield _iteration_limit(limits, scope)


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
