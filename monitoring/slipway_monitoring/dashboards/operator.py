"""Does the operator work, and what do its objects say of themselves?"""

from slipway_monitoring.dashboards.frame import DashboardSpec, Row
from slipway_monitoring.dashboards.panels import Column, Limit, PanelText, Query, graph, stat_panel, table_panel
from slipway_monitoring.dashboards.promql import (
    OBJECTS,
    aggregate,
    highest,
    in_range,
    of_releases,
    per_minute,
    per_second,
    quantile,
    series,
    total,
)
from slipway_monitoring.dashboards.shared import PODS, RELEASE_NAME
from slipway_monitoring.rules.thresholds import Thresholds

DAY = 86400
OBJECT = "{{namespace}}/{{name}}"
KIND = "{{kind}}"
READY = 'condition="Ready"'
ERRORS = "slipway_operator_reconcile_errors_total"
BUILD = "slipway_operator_build_info"
DURATION = "slipway_operator_reconcile_duration_seconds"


def build(limits: Thresholds) -> DashboardSpec:
    """`limits` draw the thresholds of the alerts as lines."""
    return DashboardSpec(
        uid="slipway-operator",
        title="Slipway / Operator",
        description="The operator's own work, and the state of KeyRotations, AlertPolicies and AgentHealths.",
        rows=(_numbers(), _objects(limits), _rotations(), _work(), _process()),
        anchor=BUILD,
        objects="slipway_operator_condition",
        rollout_marks=False,
    )


def of_objects(metric: str, where: str = "") -> str:
    """An object's series: their `namespace` is the object's, not the operator's."""
    return series(f"slipway_operator_{metric}", where, selector=OBJECTS)


def of_rotation(function: str, inner: str) -> str:
    """`function` over series of KeyRotations, one for each of them."""
    return aggregate(function, inner, "name")


def since(metric: str) -> str:
    """Seconds since the moment that a timestamp metric holds."""
    return of_rotation("max", f"time() - {of_objects(metric)}")


def _numbers() -> Row:
    behind = aggregate("sum", of_objects("rotation_pods_behind"))
    stuck = aggregate("sum", of_objects("rotation_stuck"))
    unready = aggregate("count", f"{of_objects('condition', READY)} < 1")
    known = aggregate("count", of_objects("condition", READY))
    return Row(
        "In short",
        (
            stat_panel(
                PanelText(
                    "Operators at work",
                    "Operators that hold the Lease of each namespace that they watch.",
                    "short",
                    (
                        "SlipwayOperatorDown",
                        "SlipwayOperatorWithoutLease",
                    ),
                ),
                Query(total("slipway_operator_lease_held"), RELEASE_NAME),
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Objects that are not Ready",
                    "By namespace. Their conditions below say why.",
                    "short",
                    ("SlipwayObjectNotReady",),
                ),
                Query(f"{unready} or 0 * {known}", "{{namespace}}"),
                limit=Limit(warning=1),
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Rotations past their deadline",
                    "They wait for somebody to look; the old key still works.",
                    "short",
                    ("SlipwayRotationStuck",),
                ),
                Query(stuck, "{{namespace}}"),
                limit=Limit(critical=1),
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Pods behind",
                    "Ready pods that do not report the newest revision of a key. A rotation waits for them.",
                    "short",
                ),
                Query(behind, "{{namespace}}"),
                limit=Limit(warning=1),
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Failed reconciles",
                    "In the chosen time range. Conflicts are tried again at once and harm nobody.",
                    "short",
                    ("SlipwayOperatorReconcileFailing",),
                ),
                Query(in_range(ERRORS, where='reason!="conflict"'), RELEASE_NAME),
                limit=Limit(warning=1),
                decimals=0,
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Objects missed by the watch",
                    "Changed, but the watch has not told. The probe fails on them.",
                    "short",
                    ("SlipwayOperatorWatchStale",),
                ),
                Query(highest("slipway_operator_watch_stale"), RELEASE_NAME),
                limit=Limit(critical=1),
                width=4,
            ),
        ),
    )


def _objects(limits: Thresholds) -> Row:
    age = since("rotation_key_created_timestamp_seconds")
    return Row(
        "Objects",
        (
            table_panel(
                PanelText(
                    "Conditions",
                    "1 is True, 0 False, -1 Unknown. `kubectl describe` has the message.",
                    "none",
                    ("SlipwayAlertsBlind",),
                ),
                ("kind", "namespace", "name", "condition"),
                Column("Status", aggregate("max", of_objects("condition"), "kind", "name", "condition"), "none"),
                width=12,
            ),
            table_panel(
                PanelText(
                    "Keys",
                    "Of each KeyRotation: age of the key in use, time until the next rotation, since the last one.",
                    "s",
                    ("SlipwayRotationOverdue",),
                ),
                ("namespace", "name"),
                Column("Key age", age, "s", Limit(warning=limits.key_age_days * DAY)),
                Column("Next in", of_rotation("max", f"{of_objects('rotation_next_timestamp_seconds')} - time()"), "s"),
                Column("Last done", since("rotation_last_success_timestamp_seconds"), "s"),
                Column("Revision", of_rotation("max", of_objects("rotation_revision")), "none"),
                width=12,
            ),
        ),
    )


def _rotations() -> Row:
    calls = "slipway_operator_rotation_provider_calls_total"
    return Row(
        "Rotations",
        (
            graph(
                PanelText("Phase", "A line for each rotation's phase while it is in it.", "short"),
                Query(aggregate("max", f"{of_objects('rotation_phase')} == 1", "name", "phase"), f"{OBJECT} {{{{phase}}}}"),
                width=6,
                maximum=2,
            ),
            graph(
                PanelText("Time in the phase", "Idle is the long one; any other should take minutes.", "s"),
                Query(since("rotation_phase_start_timestamp_seconds"), OBJECT),
                width=6,
            ),
            graph(
                PanelText("Pods behind by rotation", "Ready pods that do not report the newest revision.", "short"),
                Query(of_rotation("max", of_objects("rotation_pods_behind")), OBJECT),
                width=6,
            ),
            graph(
                PanelText("Calls to providers of keys", "Per minute, by operation and result.", "opm"),
                Query(per_minute(calls, "operation", "result"), "{{operation}} {{result}}"),
                width=6,
            ),
        ),
    )


def _work() -> Row:
    return Row(
        "Reconciling",
        (
            graph(
                PanelText("Reconciles by kind", "Per second: changes, and the regular look at every object.", "reqps"),
                Query(per_second(f"{DURATION}_count", "kind"), KIND),
                stacked=True,
                width=6,
            ),
            graph(
                PanelText("Duration (p95)", "95 of 100 reconciles end sooner.", "s"),
                Query(quantile(0.95, DURATION, "kind"), KIND),
                width=6,
            ),
            graph(
                PanelText("Errors", "Failed reconciles per minute, by what went wrong.", "opm"),
                Query(per_minute(ERRORS, "kind", "reason"), "{{kind}} {{reason}}"),
                width=6,
            ),
            graph(
                PanelText("Since the last success", "By kind. Grows while none succeeds.", "s"),
                Query(aggregate("min", f"time() - {series('slipway_operator_last_success_timestamp_seconds')}", "kind"), KIND),
                width=6,
            ),
        ),
    )


def _process() -> Row:
    return Row(
        "Process",
        (
            graph(
                PanelText("Waiting objects", "Due, and no worker is free.", "short", ("SlipwayOperatorBehind",)),
                Query(total("slipway_operator_queue_depth", "pod"), PODS),
            ),
            graph(
                PanelText("CPU by pod", "Cores in use.", "short"),
                Query(of_releases(per_second("process_cpu_seconds_total", "pod"), BUILD), PODS),
            ),
            graph(
                PanelText("Memory by pod", "Resident memory.", "bytes"),
                Query(of_releases(total("process_resident_memory_bytes", "pod"), BUILD), PODS),
            ),
        ),
    )
