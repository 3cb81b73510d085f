"""A rotation as metrics."""

from datetime import datetime

from prometheus_client import Gauge

from agent_operator.manifests.conditions import is_true
from agent_operator.metrics import Metrics
from agent_operator.reconcile.rotation.effects import Scene
from agent_operator.reconcile.rotation.status import Phase, Status


def report(metrics: Metrics, scene: Scene, status: Status) -> None:
    """The status as it stands. An object's series end with `Metrics.forget`."""
    labels = (scene.identity.namespace, scene.identity.name)
    for phase in Phase:
        metrics.rotation_phase.labels(*labels, phase).set(phase is status.phase)
    metrics.rotation_revision.labels(*labels).set(status.revision)
    metrics.rotation_stuck.labels(*labels).set(is_true(status.conditions, "Stuck"))
    metrics.rotation_pods_behind.labels(*labels).set(len(status.unconfirmed))
    _moment(metrics.rotation_phase_start.labels(*labels), status.phase_since)
    _moment(metrics.rotation_key_created.labels(*labels), status.key_time)
    _moment(metrics.rotation_last_success.labels(*labels), status.last_rotation)
    _moment(metrics.rotation_next.labels(*labels), status.next_rotation)


def _moment(gauge: Gauge, moment: datetime | None) -> None:
    if moment is not None:
        gauge.set(moment.timestamp())
