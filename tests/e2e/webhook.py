"""A webhook in the cluster that keeps the alerts it is sent: `operator_stub.py` in a pod named `stub`."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.agent import OPERATOR_IMAGE
from tests.support.cluster import Namespace, kubectl

STUB = Path(__file__).parent / "operator_stub.py"

LABELS = {"app": "stub"}

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}

URL_SECRET = {"name": "hook", "key": "url"}
"""Where a receiver finds the webhook's address."""


def manifests(namespace: Namespace, *, instance: str) -> list[dict[str, Any]]:
    """A pod and its Service, of the release `instance` for a ServiceMonitor, and the Secret with the address."""
    container = {
        "name": "stub",
        "image": OPERATOR_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", f"/stub/{STUB.name}"],
        "securityContext": RESTRICTED,
        "ports": [{"name": "ops", "containerPort": 9090}, {"name": "hook", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "hook"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "stub", "mountPath": "/stub"}],
    }
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "stub", "configMap": {"name": "stub"}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "stub"},
            "data": {STUB.name: STUB.read_text(encoding="utf-8")},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "stub"},
            "spec": {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "stub", "labels": {**LABELS, "app.kubernetes.io/instance": instance}},
            "spec": {"selector": LABELS, "ports": [{"name": "ops", "port": 9090}, {"name": "hook", "port": 8080}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": URL_SECRET["name"], "labels": {"slipway.dev/alert-receiver": "true"}},
            "stringData": {URL_SECRET["key"]: f"http://stub.{namespace.name}:8080/"},
        },
    ]


def received(namespace: Namespace, alert: str) -> list[dict[str, Any]]:
    """What the webhook was told of this alert, oldest first: `status`, `labels`, `annotations`."""
    path = f"/api/v1/namespaces/{namespace.name}/services/stub:hook/proxy/"
    sent = json.loads(kubectl("get", "--raw", path))
    return [each for message in sent for each in message["alerts"] if each["labels"]["alertname"] == alert]
