"""Does a rollout lose anything, and has every pod taken up the new key?"""

from slipway_monitoring.dashboards.frame import DashboardSpec, Row
from slipway_monitoring.dashboards.panels import Limit, PanelText, Query, graph, stat_panel
from slipway_monitoring.dashboards.promql import aggregate, highest, in_range, of_releases, per_minute, series
from slipway_monitoring.dashboards.shared import PODS, RELEASE_NAME
from slipway_monitoring.rules.thresholds import Thresholds

DAY = 86400
DRAINING_FOR = f"({series('agent_draining')} * (time() - {series('agent_drain_started_timestamp_seconds')}))"
REVISIONS = aggregate("group", f"{series('agent_key_revision')} == 1", "key", "revision")
SPREAD = aggregate("count", REVISIONS, "key")
LOADED = series("agent_key_loaded_timestamp_seconds")
AGE = aggregate("max", f"(time() - {LOADED}) * ({LOADED} > bool 0)", "key")
"""0 for a key that is not set."""


def build(limits: Thresholds) -> DashboardSpec:
    """`limits` draw the thresholds of the alerts as lines."""
    return DashboardSpec(
        uid="slipway-rollouts-keys",
        title="Slipway / Rollouts and keys",
        description="Versions, drains, recovered runs, resumed streams, and the revisions of keys.",
        rows=(_numbers(limits), _rollouts(limits), _recovery(), _keys(limits)),
    )


def _numbers(limits: Thresholds) -> Row:
    gaps = in_range("agent_stream_resumes_total", where='result="gap"')
    return Row(
        "In short",
        (
            stat_panel(
                PanelText("Versions running", "More than one while a rollout is under way.", "short"),
                Query(aggregate("count", aggregate("group", series("agent_build_info"), "version")), RELEASE_NAME),
                limit=Limit(warning=2),
                width=4,
            ),
            stat_panel(
                PanelText("Longest drain", "Of the pods that drain now; 0 while none does.", "s"),
                Query(aggregate("max", DRAINING_FOR), RELEASE_NAME),
                decimals=0,
                width=4,
            ),
            stat_panel(
                PanelText("Runs after a crash", "Runs that pods took over from dead ones, in the chosen time range.", "short"),
                Query(in_range("agent_runs_recovered_total", where='reason="crash"'), RELEASE_NAME),
                limit=Limit(warning=1, critical=limits.crash_recoveries),
                decimals=0,
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Streams with a gap",
                    "Reconnects that came after their events were pruned, in the chosen time range.",
                    "short",
                ),
                Query(gaps, RELEASE_NAME),
                limit=Limit(warning=1),
                decimals=0,
                width=4,
            ),
            stat_panel(
                PanelText("Key revisions in use", "The most of any key. More than 1 while a rotation is under way.", "short"),
                Query(aggregate("max", SPREAD), RELEASE_NAME),
                limit=Limit(warning=2),
                width=4,
            ),
            stat_panel(
                PanelText("Oldest key", "Since the revision in use was first loaded.", "s"),
                Query(aggregate("max", AGE), RELEASE_NAME),
                limit=Limit(warning=limits.key_age_days * DAY),
                decimals=1,
                width=4,
            ),
        ),
    )


def _rollouts(limits: Thresholds) -> Row:
    versions = aggregate("count", series("agent_build_info"), "version")
    starts = aggregate("sum", f"changes({series('process_start_time_seconds')}[$__rate_interval])", "pod")
    leaving = aggregate("sum", f"{series('agent_runs_in_flight')} * {series('agent_draining')}", "pod")
    return Row(
        "Rollouts",
        (
            graph(
                PanelText("Pods by version", "A rollout exchanges one colour for the other without a dip.", "short"),
                Query(versions, f"{RELEASE_NAME} {{{{version}}}}"),
                stacked=True,
                width=6,
            ),
            graph(
                PanelText(
                    "Time spent draining",
                    "Since the SIGTERM, by pod; 0 in traffic. Too long is what DRAIN_SECONDS allows, and a little more.",
                    "s",
                    ("AgentDrainingStuck",),
                ),
                Query(aggregate("max", DRAINING_FOR, "pod"), PODS),
                Query(f"{highest('agent_drain_limit_seconds')} + {limits.drain_grace_seconds:g}", f"{RELEASE_NAME} too long"),
                width=6,
            ),
            graph(
                PanelText(
                    "Runs left on draining pods",
                    "What a drain waits for. What is left at DRAIN_SECONDS is handed to a peer.",
                    "short",
                ),
                Query(leaving, PODS),
                width=6,
            ),
            graph(
                PanelText(
                    "Process starts by pod",
                    "Counts a container that restarts in its pod: crash, out of memory, failed probe.",
                    "short",
                ),
                Query(of_releases(starts), PODS),
                width=6,
            ),
        ),
    )


def _recovery() -> Row:
    resumes = "agent_stream_resumes_total"
    return Row(
        "What users notice",
        (
            graph(
                PanelText(
                    "Runs taken over",
                    "Per minute. Hand-overs belong to rollouts, crashes do not.",
                    "opm",
                    ("AgentRunsRecovered",),
                ),
                Query(per_minute("agent_runs_recovered_total", "reason"), f"{RELEASE_NAME} {{{{reason}}}}"),
                width=8,
            ),
            graph(
                PanelText(
                    "Streams resumed", "Clients that came back with a Last-Event-ID, by where their events came from.", "opm"
                ),
                Query(per_minute(resumes, "result"), f"{RELEASE_NAME} {{{{result}}}}"),
                stacked=True,
                width=8,
            ),
            graph(
                PanelText(
                    "Clean-up", "Runs, threads and sessions pruned per minute. Flat at 0 for hours: it does not keep up.", "opm"
                ),
                Query(per_minute("agent_pruned_total", "what"), f"{RELEASE_NAME} {{{{what}}}}"),
                width=8,
            ),
        ),
    )


def _keys(limits: Thresholds) -> Row:
    pods = aggregate("sum", series("agent_key_revision"), "key", "revision")
    refused = per_minute("agent_llm_requests_total", "model", where='status="auth"')
    return Row(
        "Keys",
        (
            graph(
                PanelText(
                    "Pods by key revision",
                    "All pods change over within minutes of a rotation.",
                    "short",
                    ("AgentKeyRevisionSpread",),
                ),
                Query(pods, f"{RELEASE_NAME} {{{{key}}}} {{{{revision}}}}"),
                stacked=True,
                width=8,
            ),
            graph(
                PanelText("Key age", "Since the revision in use was first loaded.", "s", ("AgentKeyTooOld",)),
                Query(AGE, f"{RELEASE_NAME} {{{{key}}}}"),
                limit=Limit(warning=limits.key_age_days * DAY),
                width=8,
            ),
            graph(
                PanelText(
                    "Refused keys",
                    "Attempts that the model endpoint answers 401, and calls that we answer 401, per minute.",
                    "opm",
                ),
                Query(refused, f"{RELEASE_NAME} {{{{model}}}} refuses ours"),
                Query(per_minute("agent_http_requests_total", where='code="401"'), f"{RELEASE_NAME} we refuse theirs"),
                width=8,
            ),
        ),
    )
