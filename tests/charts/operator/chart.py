"""The chart of the operator, and values that reach its every template."""

from typing import Any

from tests.support.charts import CHARTS, Manifest, Values, merged, one, refusal, render, values_of

CHART = CHARTS / "slipway-operator"

ANYWHERE = values_of("checkCRDs=false")
"""Without a cluster Helm knows of no CRD."""

NAMESPACED = values_of("watchNamespaces=[team-a, team-b]", "rbac.secretNames=[model-key]", "rbac.adminSecretNames=[admin-key]")

EVERYTHING = values_of(
    "imagePullSecrets=[{name: registry}]",
    "rbac.allSecrets=true",
    "prometheus.url=http://prometheus:9090",
    "extraEnv=[{name: HTTPS_PROXY, value: 'http://proxy:3128'}]",
    "serviceAccount.annotations={role: operator}",
    "podAnnotations={note: one}",
    "podLabels={team: platform}",
    "nodeSelector={disk: ssd}",
    "tolerations=[{key: system, operator: Exists}]",
    "affinity={nodeAffinity: {}}",
    "priorityClassName=high",
    "networkPolicy.enabled=true",
    "networkPolicy.ingressFrom=[{namespaceSelector: {}}]",
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.serviceMonitor.labels={team: platform}",
    "monitoring.alerts.enabled=true",
    "monitoring.alerts.labels={team: platform}",
    "monitoring.dashboards.enabled=true",
)

CASES: dict[str, Values] = {"default": {}, "namespaced": NAMESPACED, "everything": EVERYTHING}


def manifests(*values: Values) -> list[Manifest]:
    return render(CHART, merged(ANYWHERE, *values), name="slipway-operator", namespace="slipway-system")


def made(kind: str, *values: Values, name: str | None = None) -> Manifest:
    """The one object of a kind."""
    return one(manifests(*values), kind, name)


def refused(*sets: str) -> str:
    return refusal(CHART, values_of(*sets))


def pod(*values: Values) -> dict[str, Any]:
    """The pod's specification."""
    spec: dict[str, Any] = made("Deployment", *values)["spec"]["template"]["spec"]
    return spec
