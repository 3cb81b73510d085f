"""The chart of the agent, and values that reach its every template."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.support.charts import CHARTS, Manifest, Values, merged, one, refusal, render, values_of

CHART = CHARTS / "slipway"

ANYWHERE = values_of("checkCRDs=false")
"""Without a cluster Helm knows of no CRD."""

DEFAULT: Values = {}

EXTERNAL = values_of(
    "postgres.existingSecret=database",
    "postgres.caSecret=database-ca",
    "auth.jwt.jwksUrl=http://login.internal:8443/keys",
    "auth.jwt.existingSecret=token-key",
    "auth.jwt.key=''",
    "auth.jwt.issuer=https://login",
    "auth.jwt.audience=agent",
    "auth.apiKeys.existingSecret=api-keys",
    "model.name=large",
    "model.cheapName=small",
    "model.fallbackName=other",
    "model.baseUrl=http://models.internal:8080/v1",
    "model.existingSecret=model-key",
    "helmTest.existingSecret=tester",
)

GRAPH = values_of(
    "graph.module=travel.agent:build",
    "graph.package=travel",
    'graph.files={"agent.py": "build = 1", "__init__.py": ""}',
    'graph.prices="models: {}"',
    "guardrails.inputRules=[{name: project, pattern: '(?i)\\bproject[- ]x\\b', message: 'Ask legal: #x'}]",
    'env={MAX_MODEL_CALLS: 20, GUARDRAILS: "off"}',
    "extraEnv=[{name: LANGSMITH_API_KEY, valueFrom: {secretKeyRef: {name: langsmith, key: key}}}]",
    "extraVolumes=[{name: ca, configMap: {name: ca}}]",
    "extraVolumeMounts=[{name: ca, mountPath: /etc/ca}]",
)

ROUTED = values_of(
    "ingress.enabled=true",
    "ingress.host=agent.test",
    "ingress.tlsSecret=certificate",
    "ingress.className=public",
    "httpRoute.enabled=true",
    "httpRoute.parentRefs=[{name: main, namespace: ingress}]",
    "httpRoute.hostnames=[agent.test]",
    "networkPolicy.apiFrom=[{podSelector: {}}]",
    "networkPolicy.extraEgress=[{ports: [{port: 6379}]}]",
    "networkPolicy.extraIngress=[{ports: [{port: 8000}]}]",
)

MONITORED = values_of(
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.serviceMonitor.labels={team: agents}",
    "monitoring.alerts.enabled=true",
    "monitoring.dashboards.enabled=true",
)

PLACED = values_of(
    "imagePullSecrets=[{name: registry}]",
    "serviceAccount.annotations={role: agent}",
    "service.annotations={lb: internal}",
    "podAnnotations={note: one}",
    "podLabels={team: agents}",
    "nodeSelector={disk: ssd}",
    "tolerations=[{key: agents, operator: Exists}]",
    "affinity={nodeAffinity: {}}",
    "priorityClassName=high",
    "preStopSleepSeconds=10",
    "postgres.storage.className=fast",
    "extraObjects=[{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-map'}},"
    r' "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"{{ .Release.Name }}-text\"}"]',
)

SCALED = {mode: values_of("autoscaling.enabled=true", f"autoscaling.mode={mode}") for mode in ("pods-metric", "cpu")}
SCALED["keda"] = values_of(
    "autoscaling.enabled=true",
    "autoscaling.mode=keda",
    "autoscaling.keda.serverAddress=http://prometheus:9090",
    "autoscaling.keda.authenticationRef=prometheus",
)

PLATFORMS: dict[str, Values] = {
    path.name.removesuffix("-values.yaml"): yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    for path in sorted((CHART / "ci").glob("*-values.yaml"))
    if path.name != "umbrella-values.yaml"
}
"""Values for a platform each; those of an umbrella chart are for another chart."""

CASES: dict[str, Values] = {
    "default": DEFAULT,
    "external": EXTERNAL,
    "graph": GRAPH,
    "routed": ROUTED,
    "monitored": MONITORED,
    "placed": PLACED,
    **{f"scaled-{mode}": values for mode, values in SCALED.items()},
}


def manifests(*values: Values, **release: str) -> list[Manifest]:
    return render(CHART, merged(ANYWHERE, *values), **release)


def made(kind: str, *values: Values, name: str | None = None) -> Manifest:
    """The one object of a kind."""
    return one(manifests(*values), kind, name)


def refused(*sets: str) -> str:
    return refusal(CHART, merged(ANYWHERE, values_of(*sets)))


def agent(*values: Values) -> dict[str, Any]:
    """The agent's pod specification."""
    spec: dict[str, Any] = made("Deployment", *values)["spec"]["template"]["spec"]
    return spec


def environment(*values: Values) -> dict[str, Any]:
    """The agent's variables: values, or where they come from."""
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in agent(*values)["containers"][0]["env"]}


def write_umbrella(folder: Path, *aliases: str) -> Path:
    """A parent chart with this one as a dependency under each alias, each with its condition."""
    shutil.copytree(CHART, folder / "charts/slipway")
    needs = [{"name": "slipway", "version": ">=0.0.0-0", "alias": alias, "condition": f"{alias}.enabled"} for alias in aliases]
    chart = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": needs}
    (folder / "Chart.yaml").write_text(yaml.dump(chart, Dumper=yaml.CSafeDumper), encoding="utf-8")
    return folder
