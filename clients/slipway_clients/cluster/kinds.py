"""The kinds of objects that the operator reads or writes."""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""An object as the API server speaks of it in JSON."""

GROUP_VERSION = "slipway.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, by the names that the API has for it."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True


KEY_ROTATION = Kind(GROUP_VERSION, "keyrotations", "KeyRotation")
ALERT_POLICY = Kind(GROUP_VERSION, "alertpolicies", "AlertPolicy")
AGENT_HEALTH = Kind(GROUP_VERSION, "agenthealths", "AgentHealth")
OWN = (KEY_ROTATION, ALERT_POLICY, AGENT_HEALTH)

SECRET = Kind("v1", "secrets", "Secret")
CONFIG_MAP = Kind("v1", "configmaps", "ConfigMap")
POD = Kind("v1", "pods", "Pod")
SERVICE = Kind("v1", "services", "Service")
NAMESPACE = Kind("v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENT = Kind("apps/v1", "deployments", "Deployment")
AUTOSCALER = Kind("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGET = Kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
LEASE = Kind("coordination.k8s.io/v1", "leases", "Lease")
EVENT = Kind("events.k8s.io/v1", "events", "Event")
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)
SERVICE_MONITOR = Kind("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor")
PROMETHEUS_RULE = Kind("monitoring.coreos.com/v1", "prometheusrules", "PrometheusRule")
ALERTMANAGER_CONFIG = Kind("monitoring.coreos.com/v1alpha1", "alertmanagerconfigs", "AlertmanagerConfig")

ALL = (
    *OWN,
    SECRET,
    CONFIG_MAP,
    POD,
    SERVICE,
    NAMESPACE,
    DEPLOYMENT,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    LEASE,
    EVENT,
    ACCESS_REVIEW,
    SERVICE_MONITOR,
    PROMETHEUS_RULE,
    ALERTMANAGER_CONFIG,
)


def kind_of(manifest: Manifest) -> Kind:
    """Raises LookupError for a kind that the operator has no business with."""
    wanted = (manifest.get("apiVersion"), manifest.get("kind"))
    for kind in ALL:
        if (kind.api_version, kind.kind) == wanted:
            return kind
    raise LookupError(f"{wanted[0]} {wanted[1]} is none of the operator's kinds")
