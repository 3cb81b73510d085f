"""A release that meets every line of the checklist, as manifests and as facts; tests spoil one thing at a time."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from slipway_clients.cluster import Manifest
from slipway_clients.prometheus import Rule
from slipway_doctor.checks.environment import of_container
from slipway_doctor.checks.facts import Facts, Pod, PodHealth, PodStatus, PrometheusFacts, Samples
from slipway_doctor.checks.versions import VersionFigures

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMESPACE, RELEASE = "prod", "my-agent"
LABELS = {
    "app.kubernetes.io/name": "slipway",
    "app.kubernetes.io/instance": RELEASE,
    "app.kubernetes.io/component": "agent",
}
QUERY = f'sum(rate(agent_cost_usd_total{{namespace="{NAMESPACE}",job="{RELEASE}"}}[15m])) * 3600 > 50'

ENVIRONMENT = {
    "GRAPH_VERSION": "2",
    "MODEL": "gpt-4.1",
    "CHEAP_MODEL": "gpt-4.1-mini",
    "FALLBACK_MODEL": "gpt-4o",
    "OPENAI_KEY_DIR": "/keys/model",
    "API_KEYS_DIR": "/keys/api",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
}


def metadata(name: str, **more: Any) -> Manifest:
    return {"name": name, "namespace": NAMESPACE, "labels": {**LABELS}, **more}


def deployment() -> Manifest:
    probe = {"port": "ops"}
    container = {
        "name": "slipway",
        "ports": [{"name": "api", "containerPort": 8000}, {"name": "ops", "containerPort": 9090}],
        "env": [
            *({"name": name, "value": value} for name, value in ENVIRONMENT.items()),
            {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}},
        ],
        "startupProbe": {"httpGet": {"path": "/live", **probe}},
        "livenessProbe": {"httpGet": {"path": "/live", **probe}},
        "readinessProbe": {"httpGet": {"path": "/ready", **probe}},
        "volumeMounts": [{"name": "key", "mountPath": "/keys/model", "readOnly": True}],
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
    }
    template = {
        "metadata": {"labels": {**LABELS}},
        "spec": {
            "terminationGracePeriodSeconds": 330,
            "securityContext": {"runAsNonRoot": True},
            "containers": [container],
            "volumes": [{"name": "key", "secret": {"secretName": "model-key"}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata("my-agent-slipway"),
        "spec": {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template},
    }


def pod_manifest(name: str, node: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name),
        "spec": {"nodeName": node, "containers": []},
        "status": {
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "slipway", "ready": True, "restartCount": 0, "state": {"running": {}}}],
        },
    }


def status() -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "draining": False,
        "runs_in_flight": 3,
        "runs_queued": 0,
        "keys": {"openai": "7"},
        "database": {"max_connections": 197, "tls": True},
    }


def health() -> dict[str, Any]:
    answers = {"ok": True, "detail": "ok", "checked_seconds_ago": 0.5}
    return {"status": "ok", "dependencies": {"database": {**answers}, "model_endpoint": {**answers}}}


def pod(name: str, node: str) -> Pod:
    samples: Samples = {
        "agent_unpriced_model_calls_total": [({"model": "gpt-4.1"}, 0.0)],
        "agent_tokens_total": [({"model": "gpt-4.1", "type": "input"}, 1e6), ({"model": "gpt-4.1", "type": "cached"}, 4e5)],
        "agent_drain_started_timestamp_seconds": [({}, 0.0)],
        "agent_drain_limit_seconds": [({}, 300.0)],
    }
    return Pod(pod_manifest(name, node), PodStatus.model_validate(status()), PodHealth.model_validate(health()), samples)


def objects() -> dict[str, list[Manifest]]:
    """By plural, as `gather` finds them."""
    selector = {"matchLabels": {**LABELS}}
    scale = {"kind": "Deployment", "name": "my-agent-slipway", "apiVersion": "apps/v1"}
    conditions = [
        {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale"},
        {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"},
    ]
    return {
        "horizontalpodautoscalers": [
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": metadata("my-agent-slipway"),
                "spec": {"scaleTargetRef": scale, "minReplicas": 2, "maxReplicas": 5},
                "status": {"conditions": conditions},
            }
        ],
        "poddisruptionbudgets": [
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": metadata("my-agent-slipway"),
                "spec": {"maxUnavailable": 1, "selector": selector},
                "status": {"expectedPods": 2, "desiredHealthy": 1},
            }
        ],
        "networkpolicies": [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": metadata("my-agent-slipway"),
                "spec": {"podSelector": selector, "policyTypes": ["Ingress", "Egress"]},
            }
        ],
        "prometheusrules": [
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": metadata("my-agent-slipway"),
                "spec": {"groups": [{"name": "cost", "rules": [{"alert": "AgentCostHigh", "expr": QUERY}]}]},
            }
        ],
        "dashboards": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("my-agent-slipway-overview-dashboard")}],
        "secrets": [secret("2026-02-20T00:00:00Z")],
        "databases": [],
    }


def secret(changed: str) -> Manifest:
    fields = [{"manager": "kubectl", "time": changed, "fieldsV1": {"f:data": {}}}]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata("model-key", creationTimestamp="2025-01-01T00:00:00Z", managedFields=fields),
    }


def prometheus() -> PrometheusFacts:
    return PrometheusFacts(
        up=2,
        p99_seconds=4.2,
        error_ratio=0.001,
        requests=500,
        drained=True,
        rules=[Rule("cost", "AgentCostHigh", "ok", QUERY)],
        versions=versions(),
    )


def versions(new_failed: float = 0.0) -> list[VersionFigures]:
    return [VersionFigures(RELEASE, "2", turns=100, failed=new_failed), VersionFigures(RELEASE, "1", turns=100)]


def facts() -> Facts:
    agent = deployment()
    return Facts(
        namespace=NAMESPACE,
        release=RELEASE,
        now=NOW,
        environment=of_container(agent["spec"]["template"]["spec"]["containers"][0]),
        deployment=agent,
        pods=(pod("a", "node1"), pod("b", "node2")),
        objects=objects(),
        prometheus=prometheus(),
    )


Change = Callable[[Facts], Facts]


def env(**values: str) -> Change:
    def change(facts: Facts) -> Facts:
        return replace(facts, environment=replace(facts.environment, values={**facts.environment.values, **values}))

    return change


def first_pod(edit: Callable[[Pod], Pod]) -> Change:
    def change(facts: Facts) -> Facts:
        return replace(facts, pods=(edit(copy.deepcopy(facts.pods[0])), *facts.pods[1:]))

    return change


def every_pod(edit: Callable[[Pod], Pod]) -> Change:
    return lambda facts: replace(facts, pods=[edit(copy.deepcopy(each)) for each in facts.pods])


def objects_are(plural: str, *found: Manifest) -> Change:
    return lambda facts: replace(facts, objects={**facts.objects, plural: list(found)})


def edited(plural: str, edit: Callable[[Manifest], object]) -> Change:
    """The one object of this kind, after an edit in place."""

    def change(facts: Facts) -> Facts:
        found = copy.deepcopy(facts.objects[plural][0])
        edit(found)
        return objects_are(plural, found)(facts)

    return change


def template(edit: Callable[[Manifest, Manifest], object]) -> Change:
    """The Deployment after an edit of its pod's spec and of the agent's container."""

    def change(facts: Facts) -> Facts:
        changed = copy.deepcopy(facts.deployment)
        assert changed
        spec = changed["spec"]["template"]["spec"]
        edit(spec, spec["containers"][0])
        return replace(facts, deployment=changed)

    return change


def figures(**values: Any) -> Change:
    def change(facts: Facts) -> Facts:
        assert facts.prometheus
        return replace(facts, prometheus=replace(facts.prometheus, **values))

    return change


def forbidden(*plurals: str) -> Change:
    return lambda facts: replace(facts, forbidden=frozenset(plurals), objects={**facts.objects, **{p: [] for p in plurals}})


def answering(status: Mapping[str, Any] | None = None, health: Mapping[str, Any] | None = None) -> Callable[[Pod], Pod]:
    """A pod whose status and health say this as well."""

    def edit(pod: Pod) -> Pod:
        assert pod.status
        assert pod.health
        said = PodStatus.model_validate({**pod.status.model_dump(exclude_unset=True), **(status or {})})
        return replace(pod, status=said, health=PodHealth.model_validate({**pod.health.model_dump(), **(health or {})}))

    return edit
