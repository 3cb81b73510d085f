"""Which part of the graph is slow, and which tool fails."""

from slipway_monitoring.dashboards.frame import DashboardSpec, Row
from slipway_monitoring.dashboards.panels import Column, Limit, PanelText, Query, graph, heatmap_panel, table_panel
from slipway_monitoring.dashboards.promql import RANGE, buckets, in_range, per_second, quantile, share
from slipway_monitoring.dashboards.shared import RELEASE_NAME
from slipway_monitoring.rules.thresholds import Thresholds

TOOL = f"{RELEASE_NAME} {{{{tool}}}}"
NODE = f"{RELEASE_NAME} {{{{node}}}}"
CALLS = "agent_tool_calls_total"
FAILED = 'status="error"'
TOOL_SECONDS = "agent_tool_duration_seconds"
NODE_SECONDS = "agent_node_duration_seconds"


def build(limits: Thresholds) -> DashboardSpec:
    """`limits` draw the thresholds of the alerts as lines."""
    return DashboardSpec(
        uid="slipway-tools-nodes",
        title="Slipway / Tools and nodes",
        description="Inside a turn: the graph's nodes, its tools, its routes.",
        rows=(_tools(limits), _tool_latency(), _nodes(limits), _routes()),
    )


def _tools(limits: Thresholds) -> Row:
    limit = Limit(warning=limits.tool_failure_ratio)
    return Row(
        "Tools",
        (
            table_panel(
                PanelText("Every tool", "In the chosen time range.", "short", ("AgentToolFailuresHigh",)),
                ("namespace", "job", "tool"),
                Column("Calls", in_range(CALLS, "tool"), "none"),
                Column("Failed", in_range(CALLS, "tool", where=FAILED), "none"),
                Column("Failing", share(in_range(CALLS, "tool", where=FAILED), in_range(CALLS, "tool")), "percentunit", limit),
                Column("p95", quantile(0.95, TOOL_SECONDS, "tool", window=RANGE), "s"),
                width=10,
            ),
            graph(
                PanelText(
                    "Failing calls", "Share of a tool's calls that end in an error.", "percentunit", ("AgentToolFailuresHigh",)
                ),
                Query(share(per_second(CALLS, "tool", where=FAILED), per_second(CALLS, "tool")), TOOL),
                limit=limit,
                width=7,
            ),
            graph(
                PanelText("Calls by tool", "Per second.", "reqps"),
                Query(per_second(CALLS, "tool"), TOOL),
                stacked=True,
                width=7,
            ),
        ),
    )


def _tool_latency() -> Row:
    return Row(
        "How long tools take",
        (
            graph(
                PanelText("Tool latency (p50)", "Half of a tool's calls end sooner.", "s"),
                Query(quantile(0.5, TOOL_SECONDS, "tool"), TOOL),
            ),
            graph(
                PanelText("Tool latency (p95)", "95 of 100 calls end sooner. Dots lead to traces.", "s"),
                Query(quantile(0.95, TOOL_SECONDS, "tool"), TOOL, exemplars=True),
            ),
            heatmap_panel(
                PanelText("Tool durations", "All tools of all chosen releases together.", "s"),
                Query(buckets(TOOL_SECONDS), "{{le}}", exemplars=True),
            ),
        ),
    )


def _nodes(limits: Thresholds) -> Row:
    runs = per_second("agent_runs_total")
    stopped = per_second("agent_runs_total", where='outcome="iteration_limit"')
    return Row(
        "Nodes of the graph",
        (
            graph(
                PanelText("Where the time goes", "Seconds of each node per second: what to make faster first.", "short"),
                Query(per_second(f"{NODE_SECONDS}_sum", "node"), NODE),
                stacked=True,
                width=6,
            ),
            graph(
                PanelText("Node latency (p95)", "95 of 100 steps of a node end sooner.", "s"),
                Query(quantile(0.95, NODE_SECONDS, "node"), NODE),
                width=6,
            ),
            graph(
                PanelText("Steps by node", "Per second. A node that rises alone is a loop.", "reqps"),
                Query(per_second(f"{NODE_SECONDS}_count", "node"), NODE),
                stacked=True,
                width=6,
            ),
            graph(
                PanelText(
                    "Stopped at the iteration limit",
                    "Turns that went round until the limit and ended without an answer.",
                    "percentunit",
                    ("AgentIterationLimitHigh",),
                ),
                Query(share(stopped, runs), RELEASE_NAME),
                limit=Limit(warning=limits.iteration_limit_ratio),
                width=6,
            ),
        ),
    )


def _routes() -> Row:
    return Row(
        "Routes and models",
        (
            graph(
                PanelText("Turns by graph", "Runs that ended, per second, where one process serves several graphs.", "reqps"),
                Query(per_second("agent_runs_total", "graph"), f"{RELEASE_NAME} {{{{graph}}}}"),
                stacked=True,
                width=6,
            ),
            graph(
                PanelText("Turns by route", "What users ask for, per second.", "reqps"),
                Query(per_second("agent_routes_total", "route"), f"{RELEASE_NAME} {{{{route}}}}"),
                stacked=True,
                width=6,
            ),
            graph(
                PanelText("Model latency (p95)", "A call to its last token.", "s"),
                Query(
                    quantile(0.95, "agent_llm_request_duration_seconds", "model"), f"{RELEASE_NAME} {{{{model}}}}", exemplars=True
                ),
                width=6,
            ),
            graph(
                PanelText("Time in model calls", "Seconds of each model per second, beside the nodes' time above.", "short"),
                Query(per_second("agent_llm_request_duration_seconds_sum", "model"), f"{RELEASE_NAME} {{{{model}}}}"),
                stacked=True,
                width=6,
            ),
        ),
    )
