"""The chart of the operator, and values that reach its every template."""

from typing import Any

import yaml

from tests.support.charts import CHARTS, Manifest, Values, merged, one, refusal, render, values_of

CHART = CHARTS / "slipway-operator"

ANYWHERE = values_of("checkCRDs=false")
"""Without a cluster Helm knows of no CRD."""

NAMESPACED = values_of(
    "watch.allNamespaces=false",
    "watch.namespaces=[{name: team-a, secretNames: [model-key]}, {name: team-b}]",
    "rbac.adminSecretNames=[admin-key]",
    "rbac.aggregate=false",
)

EVERYTHING = values_of(
    "imagePullSecrets=[{name: registry}]",
    "watch.namespaces=[{name: team-a, secretNames: [model-key, pool], createSecrets: true, configMaps: true}, {name: team-b}]",
    "prometheus.url=http://prometheus:9090",
    "extraEnv=[{name: HTTPS_PROXY, value: 'http://proxy:3128'}]",
    "serviceAccount.annotations={role: operator}",
    "podAnnotations={note: one}",
    "podLabels={team: platform}",
    "nodeSelector={disk: ssd}",
    "tolerations=[{key: system, operator: Exists}]",
    "affinity={nodeAffinity: {}}",
    "priorityClassName=high",
    "keyHosts=[models.internal:8443, 'http://fake:8080']",
    "networkPolicy.extraEgress=[{ports: [{port: 9191}]}]",
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.serviceMonitor.labels={team: platform}",
    "monitoring.alerts.enabled=true",
    "monitoring.alerts.labels={team: platform}",
    "monitoring.dashboards.enabled=true",
    "extraObjects=[{apiVersion: v1, kind: Secret, metadata: {name: '{{ .Release.Name }}-map', labels: {cost-center: '7'}}}]",
)

PLATFORMS: dict[str, Values] = {
    path.name.removesuffix("-values.yaml"): yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    for path in sorted((CHART / "ci").glob("*-values.yaml"))
}

METRICS_API = values_of("metricsApi.enabled=true", "metricsApi.tls.certManager=true")

CASES: dict[str, Values] = {"default": {}, "namespaced": NAMESPACED, "everything": EVERYTHING, "metrics-api": METRICS_API}


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
