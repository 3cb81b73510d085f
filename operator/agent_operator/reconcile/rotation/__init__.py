"""KeyRotation: keys that are replaced while they are in use. `machine.step` decides, `reconciler` does, the status remembers."""

from agent_operator.reconcile.rotation.consumers import HttpPodClient
from agent_operator.reconcile.rotation.reconciler import KeyRotationReconciler
from agent_operator.reconcile.rotation.sources import Sources
from agent_operator.reconcile.tools import Reconcile, Tools


def key_rotation(tools: Tools) -> Reconcile:
    """`reconcile` of KeyRotation objects."""
    return KeyRotationReconciler(tools, HttpPodClient(tools.http), Sources(tools))
