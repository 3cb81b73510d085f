"""Is it well? From the top down: one line of numbers, then traffic, latency, errors, saturation."""

from slipway_monitoring.dashboards.frame import DashboardSpec, Row
from slipway_monitoring.dashboards.panels import VERDICTS, Limit, PanelText, Query, graph, heatmap_panel, stat_panel
from slipway_monitoring.dashboards.promql import (
    RANGE,
    RELEASE,
    aggregate,
    buckets,
    of_releases,
    per_minute,
    per_second,
    quantile,
    series,
    share,
    total,
)
from slipway_monitoring.dashboards.saturation import process, saturation
from slipway_monitoring.dashboards.shared import BROKEN, FAILED, HTTP, RELEASE_NAME, TURNS, cost_per_hour, quantiles
from slipway_monitoring.rules.thresholds import Thresholds


def build(limits: Thresholds) -> DashboardSpec:
    """`limits` draw the thresholds of the alerts as lines."""
    return DashboardSpec(
        uid="slipway-overview",
        title="Slipway / Overview",
        description="Traffic, latency, errors and saturation of agents. Start here.",
        rows=(_health(limits), _traffic(), _latency(limits), _errors(limits), saturation(limits), process()),
    )


def _health(limits: Thresholds) -> Row:
    # A release without alerts has no ALERTS series: its zero comes from the pods.
    firing = aggregate("count", series("ALERTS", 'alertstate="firing", alertname=~"Agent.+"', selector=RELEASE))
    return Row(
        "Is it well?",
        (
            stat_panel(
                PanelText("Alerts firing", "Alerts of Slipway that fire for the release, whatever their severity.", "short"),
                Query(f"{firing} or 0 * {aggregate('count', series('agent_build_info', selector=RELEASE))}", RELEASE_NAME),
                limit=Limit(critical=1),
            ),
            stat_panel(
                PanelText(
                    "Pods not answering",
                    "Pods that Prometheus cannot scrape.",
                    "short",
                    ("AgentTargetDown", "AgentMetricsAbsent"),
                ),
                Query(aggregate("sum", of_releases(f"1 - {series('up')}", seen=RANGE)), RELEASE_NAME),
                limit=Limit(critical=1),
            ),
            stat_panel(
                PanelText("Turns that fail", "Runs that ended as failed or timeout, of all that ended.", "percentunit"),
                Query(share(per_second("agent_runs_total", where=FAILED), TURNS), RELEASE_NAME),
                limit=Limit(critical=limits.run_failure_ratio),
                decimals=1,
            ),
            stat_panel(
                PanelText("Slowest turns (p99)", "99 of 100 turns end sooner than this.", "s"),
                Query(quantile(0.99, "agent_turn_duration_seconds"), RELEASE_NAME),
                limit=Limit(critical=limits.turn_seconds),
                decimals=1,
            ),
            stat_panel(
                PanelText("HTTP 5xx", "Answers with a status of 500 or more, of all answers.", "percentunit"),
                Query(share(per_second("agent_http_requests_total", where='code=~"5.."'), HTTP), RELEASE_NAME),
                limit=Limit(critical=limits.http_error_ratio),
                decimals=1,
            ),
            stat_panel(
                PanelText("Places taken", "Runs executing, of those that the pods in traffic execute at a time.", "percentunit"),
                Query(share(total("agent_runs_in_flight"), total("agent_runs_in_flight_limit")), RELEASE_NAME),
                limit=Limit(warning=1),
                decimals=0,
            ),
            cost_per_hour(PanelText("Cost per hour", "At the present rate, by the price table.", "currencyUSD"), limits),
            stat_panel(
                PanelText("Pods draining", "Pods that finish their runs before they exit: a rollout or a scale-down.", "short"),
                Query(total("agent_draining"), RELEASE_NAME),
            ),
        ),
    )


def _traffic() -> Row:
    return Row(
        "Traffic",
        (
            graph(
                PanelText("Turns by outcome", "Runs that ended, per second.", "reqps"),
                Query(per_second("agent_runs_total", "outcome"), f"{RELEASE_NAME} {{{{outcome}}}}"),
                stacked=True,
                colors=VERDICTS,
            ),
            graph(
                PanelText("HTTP requests by status", "Answers per second. A stream counts once, when it ends.", "reqps"),
                Query(per_second("agent_http_requests_total", "code"), f"{RELEASE_NAME} {{{{code}}}}"),
                stacked=True,
                colors=VERDICTS,
            ),
            graph(
                PanelText(
                    "People, runs and connections",
                    "Open streams, runs executing and waiting, open connections; those that a limit cut, a second.",
                    "short",
                ),
                Query(total("agent_streams_open"), f"{RELEASE_NAME} streams"),
                Query(total("agent_runs_in_flight"), f"{RELEASE_NAME} executing"),
                Query(total("agent_runs_queued"), f"{RELEASE_NAME} waiting"),
                Query(total("agent_connections_open"), f"{RELEASE_NAME} connections"),
                Query(per_second("agent_connections_cut_total", "reason"), f"{RELEASE_NAME} cut: {{{{reason}}}}"),
            ),
        ),
    )


def _latency(limits: Thresholds) -> Row:
    return Row(
        "Latency",
        (
            graph(
                PanelText(
                    "Turn duration",
                    "From a run's start to its outcome. Dots are single turns and lead to their traces.",
                    "s",
                    ("AgentTurnLatencyHigh",),
                ),
                *quantiles("agent_turn_duration_seconds"),
                limit=Limit(critical=limits.turn_seconds),
            ),
            heatmap_panel(
                PanelText(
                    "Turn durations",
                    "How many turns took how long: two bands are two kinds of question, or a fault. Of all releases chosen.",
                    "s",
                ),
                Query(buckets("agent_turn_duration_seconds"), "{{le}}", exemplars=True),
            ),
            graph(
                PanelText("Time to first word", "From a run's start to its first text: what a user calls slow.", "s"),
                *quantiles("agent_time_to_first_token_seconds"),
            ),
        ),
    )


def _errors(limits: Thresholds) -> Row:
    resumes = "agent_stream_resumes_total"
    attempts = per_second("agent_llm_requests_total", "model")
    bad = 'outcome!~"completed|interrupted|cancelled"'
    return Row(
        "Errors",
        (
            graph(
                PanelText(
                    "Turns without an answer",
                    "Share of runs by how they went wrong.",
                    "percentunit",
                    ("AgentRunsFailing", "AgentIterationLimitHigh"),
                ),
                Query(
                    share(per_second("agent_runs_total", "outcome", where=bad), TURNS, "outcome"),
                    f"{RELEASE_NAME} {{{{outcome}}}}",
                ),
                limit=Limit(warning=limits.iteration_limit_ratio, critical=limits.run_failure_ratio),
            ),
            graph(
                PanelText(
                    "HTTP 5xx by route",
                    "Share of a route's answers with a status of 500 or more.",
                    "percentunit",
                    ("AgentHttpErrorsHigh",),
                ),
                Query(
                    share(
                        per_second("agent_http_requests_total", "route", where='code=~"5.."'),
                        per_second("agent_http_requests_total", "route"),
                    ),
                    f"{RELEASE_NAME} {{{{route}}}}",
                ),
                limit=Limit(critical=limits.http_error_ratio),
            ),
            graph(
                PanelText(
                    "Model endpoint failing",
                    "Share of a model's attempts that end in 5xx, no connection, a timeout or a refused key.",
                    "percentunit",
                    ("AgentModelEndpointFailing",),
                ),
                Query(
                    share(per_second("agent_llm_requests_total", "model", where=BROKEN), attempts),
                    f"{RELEASE_NAME} {{{{model}}}}",
                ),
                limit=Limit(critical=limits.model_failure_ratio),
            ),
            graph(
                PanelText(
                    "Dependencies",
                    "1 while the last check of the database and of the model endpoint was good.",
                    "short",
                    ("AgentDependencyDown",),
                ),
                Query(aggregate("min", series("agent_dependency_up"), "dependency"), f"{RELEASE_NAME} {{{{dependency}}}}"),
                maximum=1,
            ),
            graph(
                PanelText(
                    "Reconnects that found a gap",
                    "Share of reconnects whose events were pruned already.",
                    "percentunit",
                    ("AgentStreamGaps",),
                ),
                Query(share(per_second(resumes, where='result="gap"'), per_second(resumes)), RELEASE_NAME),
                limit=Limit(critical=limits.stream_gap_ratio),
            ),
            graph(
                PanelText(
                    "Turned away",
                    "Runs refused by a limit, questions refused by an input rule, times of crons that began no run; per minute.",
                    "opm",
                ),
                Query(per_minute("agent_rate_limited_total", "limit"), f"{RELEASE_NAME} {{{{limit}}}} full"),
                Query(per_minute("agent_guardrail_blocks_total"), f"{RELEASE_NAME} input rules"),
                Query(
                    per_minute("agent_cron_ticks_total", "result", where='result=~"refused|failed"'),
                    f"{RELEASE_NAME} crons {{{{result}}}}",
                ),
            ),
        ),
    )
