"""Every metric of the operator, declared once. An object's series end with the object."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

KINDS = ("KeyRotation", "AlertPolicy", "AgentHealth")
ERROR_REASONS = ("conflict", "forbidden", "invalid", "unavailable", "internal")
ROTATION_STEPS = ("mint", "verify", "revoke")
STEP_RESULTS = ("ok", "error")

RECONCILE_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds. A reconcile is a few calls of milliseconds; ten seconds is one call's time-out."""

OBJECT = ("namespace", "name")
CONDITION_VALUES = {"True": 1.0, "False": 0.0, "Unknown": -1.0}


class Metrics:
    """One registry per process; prefix `slipway_operator_`."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"slipway_operator_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"slipway_operator_{name}", text, labels, registry=registry)

        Info("slipway_operator_build", "Version of the operator", registry=registry).info({"version": version})
        self.reconcile_duration = Histogram(
            "slipway_operator_reconcile_duration_seconds",
            "Time of one reconcile of one object, failed ones too",
            ["kind"],
            buckets=RECONCILE_BUCKETS,
            registry=registry,
        )
        self.reconcile_errors = counter("reconcile_errors_total", "Failed reconciles by what went wrong", ["kind", "reason"])
        self.last_success = gauge("last_success_timestamp_seconds", "When a reconcile of the kind last succeeded", ["kind"])
        self.queue_depth = gauge("queue_depth", "Objects that are due and wait for a worker")
        self.lease_held = gauge("lease_held", "1 while it holds the Lease of every namespace that it attends to")
        self.watch_stale = gauge("watch_stale", "Objects whose newest version the watch has not told of; the probe fails on them")
        self.condition = gauge("condition", "Condition of an object: 1 True, 0 False, -1 Unknown", ["kind", *OBJECT, "condition"])
        self.rotation_phase = gauge("rotation_phase", "1 for the phase that a rotation is in, else 0", [*OBJECT, "phase"])
        self.rotation_phase_start = gauge("rotation_phase_start_timestamp_seconds", "When a rotation entered its phase", OBJECT)
        self.rotation_revision = gauge("rotation_revision", "Revision of the key that is published", OBJECT)
        self.rotation_key_created = gauge("rotation_key_created_timestamp_seconds", "When the key in use was made", OBJECT)
        self.rotation_last_success = gauge("rotation_last_success_timestamp_seconds", "End of the last complete rotation", OBJECT)
        self.rotation_next = gauge("rotation_next_timestamp_seconds", "When the next rotation is due", OBJECT)
        self.rotation_stuck = gauge("rotation_stuck", "1 when a rotation is past its deadline; the old key still works", OBJECT)
        self.rotation_pods_behind = gauge("rotation_pods_behind", "Ready pods that do not report the newest revision", OBJECT)
        self.rotation_provider_calls = counter(
            "rotation_provider_calls_total", "Calls to the provider of keys", ["operation", "result"]
        )
        self._create_children()

    def _create_children(self) -> None:
        # A counter that is first seen at 1 shows no increase: the first error would be invisible.
        for kind in KINDS:
            self.reconcile_duration.labels(kind)
            for reason in ERROR_REASONS:
                self.reconcile_errors.labels(kind, reason)
        for operation in ROTATION_STEPS:
            for result in STEP_RESULTS:
                self.rotation_provider_calls.labels(operation, result)

    def set_conditions(self, kind: str, namespace: str, name: str, conditions: Iterable[Mapping[str, object]]) -> None:
        """The conditions of an object's status as they stand."""
        for condition in conditions:
            self.condition.labels(kind, namespace, name, condition["type"]).set(CONDITION_VALUES[str(condition["status"])])

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """Ends the series of an object that is gone."""
        self.condition.remove_by_labels({"kind": kind, "namespace": namespace, "name": name})
        if kind == "KeyRotation":
            for family in self._rotation_families():
                family.remove_by_labels({"namespace": namespace, "name": name})

    def _rotation_families(self) -> tuple[Gauge, ...]:
        return (
            self.rotation_phase,
            self.rotation_phase_start,
            self.rotation_revision,
            self.rotation_key_created,
            self.rotation_last_success,
            self.rotation_next,
            self.rotation_stuck,
            self.rotation_pods_behind,
        )
