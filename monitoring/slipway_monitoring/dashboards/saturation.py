"""The lower half of the overview: how full the processes are."""

from slipway_monitoring.dashboards.frame import Row
from slipway_monitoring.dashboards.panels import Limit, PanelText, Query, graph
from slipway_monitoring.dashboards.promql import aggregate, highest, of_releases, per_second, series, share, total
from slipway_monitoring.dashboards.shared import PODS, RELEASE_NAME, quantiles
from slipway_monitoring.rules.thresholds import Thresholds


def saturation(limits: Thresholds) -> Row:
    """How full places, queue, connections and the event loop are."""
    pool = share(
        aggregate("sum", series("agent_db_pool_connections", 'state="in_use"'), "pod"),
        aggregate("sum", series("agent_db_pool_connections_limit"), "pod"),
    )
    return Row(
        "Saturation",
        (
            graph(
                PanelText(
                    "Places taken by pod", "Runs executing, of MAX_CONCURRENT_RUNS. The autoscaler aims below 1.", "percentunit"
                ),
                Query(
                    share(total("agent_runs_in_flight", "pod"), total("agent_runs_in_flight_limit", "pod")),
                    PODS,
                ),
                width=6,
                maximum=1,
            ),
            graph(
                PanelText(
                    "Queue",
                    "Runs waiting, of MAX_QUEUED_RUNS. When it is full, questions are answered 503 with a Retry-After.",
                    "percentunit",
                    ("AgentQueueSaturated",),
                ),
                Query(share(total("agent_runs_queued"), highest("agent_runs_queued_limit")), RELEASE_NAME),
                limit=Limit(warning=limits.queue_ratio),
                width=6,
                maximum=1,
            ),
            graph(
                PanelText(
                    "Database connections",
                    "Connections in use, of DATABASE_POOL_SIZE. At 1, requests wait.",
                    "percentunit",
                    ("AgentDatabasePoolSaturated",),
                ),
                Query(pool, PODS),
                limit=Limit(warning=limits.pool_ratio),
                width=6,
                maximum=1,
            ),
            graph(
                PanelText(
                    "Event loop lag",
                    "How late timers run: all streams of the pod stand still for as long.",
                    "s",
                    ("AgentEventLoopBlocked",),
                ),
                Query(highest("agent_event_loop_lag_seconds", "pod"), PODS),
                limit=Limit(warning=limits.loop_lag_seconds),
                width=6,
            ),
        ),
    )


def process() -> Row:
    """CPU, memory and what the database takes on disk."""
    return Row(
        "Pods and database",
        (
            graph(
                PanelText("CPU by pod", "Cores in use. One process uses one core at most.", "short"),
                Query(of_releases(per_second("process_cpu_seconds_total", "pod")), PODS),
                width=6,
            ),
            graph(
                PanelText("Memory by pod", "Resident memory.", "bytes"),
                Query(of_releases(total("process_resident_memory_bytes", "pod")), PODS),
                width=6,
            ),
            graph(
                PanelText(
                    "API latency",
                    "Requests that are no streams. `POST /chat` counts until its answer is complete.",
                    "s",
                ),
                *quantiles("agent_http_request_duration_seconds"),
                width=6,
            ),
            graph(
                PanelText("Database size", "Tables that grow with use, with their indexes, at the last clean-up.", "bytes"),
                Query(highest("agent_table_bytes", "table"), f"{RELEASE_NAME} {{{{table}}}}"),
                width=6,
                stacked=True,
            ),
        ),
    )
