"""Objects that make no sense are refused by the API server itself, with a message that names the field."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.operator import install_crds
from tests.support.cluster import Namespace, fresh_namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

POLICY = {"release": "demo"}
HEALTH = {"release": "demo"}
POOL = {"secretName": "keys"}
ROTATION = {
    "target": {"secretName": "model-key"},
    "consumers": {"selector": {"matchLabels": {"app": "demo"}}},
    "provider": {"pool": POOL},
}
OPEN_AI = {"projectID": "proj_1", "adminKey": {"secretName": "admin"}}
TRAVERSAL = "../../victim/secrets/db"
KEY = {"name": "hook", "key": "url"}

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("AlertPolicy", POLICY),
    (
        "AlertPolicy",
        {
            **POLICY,
            "thresholds": {"turnSeconds": 30, "httpErrorRatio": 1, "dailyBudgetUsd": 100, "budgetRatio": 0.5},
            "tools": [{"name": "search", "failureRatio": 0.3}],
            "objectives": [{"indicator": "latency", "objective": 0.99}],
            "labels": {"team": "ai"},
            "receiver": {"webhook": {"urlSecret": KEY}, "groupWait": "10s"},
            "prometheus": {"url": "http://prometheus:9090"},
        },
    ),
    ("AgentHealth", HEALTH),
    ("KeyRotation", ROTATION),
]

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("AlertPolicy", {}, "spec.release"),
    ("AlertPolicy", {"release": "Upper"}, "spec.release"),
    ("AlertPolicy", {**POLICY, "thresholds": {"turnSeconds": 31}}, "spec.thresholds.turnSeconds must be one of"),
    ("AlertPolicy", {**POLICY, "thresholds": {"httpErrorRatio": 0}}, "spec.thresholds.httpErrorRatio"),
    ("AlertPolicy", {**POLICY, "thresholds": {"toolFailureRatio": 1.5}}, "spec.thresholds.toolFailureRatio"),
    ("AlertPolicy", {**POLICY, "thresholds": {"costUsdPerHour": -1}}, "spec.thresholds.costUsdPerHour"),
    ("AlertPolicy", {**POLICY, "thresholds": {"budgetRatio": 0.5}}, "spec.thresholds.budgetRatio is a share of dailyBudgetUsd"),
    ("AlertPolicy", {**POLICY, "thresholds": {"keyAgeDays": "old"}}, "spec.thresholds.keyAgeDays"),
    (
        "AlertPolicy",
        {**POLICY, "tools": [{"name": "a", "failureRatio": 0.1}, {"name": "a", "failureRatio": 0.2}]},
        "spec.tools[1]",
    ),
    ("AlertPolicy", {**POLICY, "routes": [{"path": "chat", "errorRatio": 0.1}]}, "spec.routes[0].path"),
    ("AlertPolicy", {**POLICY, "objectives": [{"indicator": "latency", "objective": 1}]}, "spec.objectives[0].objective"),
    ("AlertPolicy", {**POLICY, "objectives": [{"indicator": "joy", "objective": 0.9}]}, "spec.objectives[0].indicator"),
    ("AlertPolicy", {**POLICY, "labels": {"severity": "low"}}, "spec.labels must not replace alertname"),
    ("AlertPolicy", {**POLICY, "labels": {"my-team": "a"}}, "spec.labels must have names that Prometheus takes"),
    ("AlertPolicy", {**POLICY, "outputLabels": {"slipway.dev/alertpolicy": "other"}}, "spec.outputLabels must not begin with"),
    ("AlertPolicy", {**POLICY, "prometheus": {"url": "prometheus:9090"}}, "spec.prometheus.url"),
    ("AlertPolicy", {**POLICY, "prometheus": {"url": "http://me:secret@prometheus"}}, "must not hold a user or a password"),
    ("AlertPolicy", {**POLICY, "receiver": {"groupWait": "10s"}}, "spec.receiver must have exactly one of"),
    ("AlertPolicy", {**POLICY, "receiver": {"webhook": {"urlSecret": KEY}, "groupWait": "0s"}}, "spec.receiver.groupWait"),
    (
        "AlertPolicy",
        {**POLICY, "output": "ConfigMap", "receiver": {"webhook": {"urlSecret": KEY}}},
        "spec.output must be PrometheusRule",
    ),
    ("AlertPolicy", {**POLICY, "output": "File"}, "spec.output"),
    ("AlertPolicy", {**POLICY, "treshold": {}}, "spec.treshold"),
    ("AgentHealth", {}, "spec.release"),
    ("AgentHealth", {**HEALTH, "limits": {"errorRatio": 5}}, "limits.errorRatio is a share between 0 and 1"),
    ("AgentHealth", {**HEALTH, "limits": {"p99Seconds": 0}}, "limits.p99Seconds must be above 0"),
    ("AgentHealth", {**HEALTH, "limits": {"minReplicas": 0}}, "spec.limits.minReplicas"),
    ("AgentHealth", {**HEALTH, "accepted": [{"condition": "Ready", "because": "no"}]}, "spec.accepted[0]"),
    ("KeyRotation", {**ROTATION, "provider": {}}, "spec.provider"),
    ("KeyRotation", {**ROTATION, "provider": {"pool": POOL, "openAI": OPEN_AI}}, "spec.provider"),
    ("KeyRotation", {**ROTATION, "provider": {"pool": {"secretName": "model-key"}}}, "pool.secretName must not be the target"),
    (
        "KeyRotation",
        {**ROTATION, "schedule": {"cron": "* * * * *", "interval": "1h"}},
        "schedule needs exactly one of cron, interval",
    ),
    ("KeyRotation", {**ROTATION, "schedule": {"interval": "5s"}}, "interval must be at least 30s"),
    ("KeyRotation", {**ROTATION, "schedule": {"interval": "1h", "jitter": "2h"}}, "jitter must not be longer than interval"),
    ("KeyRotation", {**ROTATION, "provider": {"openAI": {**OPEN_AI, "mode": "KeyPerRevision"}}}, "needs serviceAccountID"),
    ("KeyRotation", {**ROTATION, "overlap": "soon"}, "spec.overlap"),
    ("KeyRotation", {**ROTATION, "target": {"secretName": TRAVERSAL}}, "spec.target.secretName"),
    ("KeyRotation", {**ROTATION, "target": {"secretName": "a..b"}}, "spec.target.secretName"),
    ("KeyRotation", {**ROTATION, "provider": {"pool": {"secretName": TRAVERSAL}}}, "spec.provider.pool.secretName"),
    (
        "KeyRotation",
        {**ROTATION, "provider": {"openAI": {**OPEN_AI, "adminKey": {"secretName": TRAVERSAL}}}},
        "spec.provider.openAI.adminKey.secretName",
    ),
    (
        "KeyRotation",
        {**ROTATION, "provider": {"generated": {"kind": "APIKey", "apiKey": {"recordsSecretName": TRAVERSAL, "user": "u"}}}},
        "spec.provider.generated.apiKey.recordsSecretName",
    ),
    ("KeyRotation", {**ROTATION, "consumers": {"selector": {"matchLabels": {"app": "a,b=c"}}}}, "matchLabels"),
    ("KeyRotation", {**ROTATION, "consumers": {"selector": {"matchLabels": {"app in (a)": "b"}}}}, "names of labels"),
    ("KeyRotation", {**ROTATION, "verify": {"url": "https://me@models"}}, "must not hold a user"),
    ("KeyRotation", {**ROTATION, "verify": {"url": "file:///etc/passwd"}}, "spec.verify.url"),
    ("AlertPolicy", {**POLICY, "receiver": {"webhook": {"urlSecret": {**KEY, "name": TRAVERSAL}}}}, "urlSecret.name"),
    ("AlertPolicy", {**POLICY, "labels": {"team": '{{ query "up" }}'}}, "spec.labels.team"),
    ("AlertPolicy", {**POLICY, "outputLabels": {"a b": "c"}}, "names of labels"),
    ("AlertPolicy", {**POLICY, "routes": [{"path": "/{{x}}", "errorRatio": 0.1}]}, "spec.routes[0].path"),
    ("KeyRotation", {**ROTATION, "consumers": {"selector": {"matchLabels": {}}}}, "spec.consumers.selector.matchLabels"),
]


@pytest.fixture(scope="module", autouse=True)
def _crds() -> None:
    install_crds()


def create(kind: str, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    manifest = {"apiVersion": "slipway.dev/v1alpha1", "kind": kind, "metadata": {"name": "main"}, "spec": spec}
    command = ["kubectl", "create", "--dry-run=server", "--validate=strict", "--namespace=default", "--filename=-"]
    return subprocess.run(command, input=json.dumps(manifest), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_a_good_object_is_accepted(kind: str, spec: dict[str, Any]) -> None:
    done = create(kind, spec)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "spec", "words"), BAD)
def test_a_bad_object_is_refused_with_a_message_that_names_the_field(kind: str, spec: dict[str, Any], words: str) -> None:
    done = create(kind, spec)

    assert done.returncode != 0, done.stdout
    assert words in done.stderr


KINDS_OF_KEYS: dict[str, dict[str, Any]] = {
    "openai": {"openAI": OPEN_AI},
    "pool": {"pool": POOL},
    "records": {"generated": {"kind": "APIKey", "apiKey": {"recordsSecretName": "records", "user": "u"}}},
    "jwt": {"generated": {"kind": "JWTSecret"}},
}

CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("openai", {"openAI": {"projectID": "proj_2"}}, "openAI.projectID cannot be changed"),
    ("openai", {"openAI": None, "pool": POOL}, "the provider cannot be changed"),
    ("pool", {"pool": {"secretName": "others"}}, "pool.secretName cannot be changed"),
    ("pool", {"pool": None, "generated": {"kind": "JWTSecret"}}, "the provider cannot be changed"),
    ("records", {"generated": {"apiKey": {"recordsSecretName": "others"}}}, "apiKey.recordsSecretName cannot be changed"),
    ("records", {"generated": {"kind": "JWTSecret", "apiKey": None}}, "generated.kind cannot be changed"),
    ("openai", {"openAI": {"adminKey": {"secretName": "renewed"}, "scopes": ["model.request"]}}, ""),
    ("openai", {"openAI": {"mode": "KeyPerRevision", "serviceAccountID": "svc_acct_1"}}, ""),
    ("records", {"generated": {"apiKey": {"user": "another"}}}, ""),
]
"""What would leave keys behind that nobody looks after is refused; the rest of a provider may change."""


@pytest.fixture(scope="module")
def rotations() -> Iterator[Namespace]:
    with fresh_namespace("e2e-crds") as namespace:
        kind = {"apiVersion": "slipway.dev/v1alpha1", "kind": "KeyRotation"}
        for name, provider in KINDS_OF_KEYS.items():
            namespace.apply({**kind, "metadata": {"name": name}, "spec": {**ROTATION, "provider": provider}})
        yield namespace


@pytest.mark.parametrize(("name", "change", "words"), CHANGES)
def test_a_provider_does_not_change_under_its_keys(rotations: Namespace, name: str, change: dict[str, Any], words: str) -> None:
    patch = json.dumps({"spec": {"provider": change}})
    command = ["kubectl", "patch", "--namespace", rotations.name, "keyrotation", name, "--type=merge", f"--patch={patch}"]
    done = subprocess.run([*command, "--dry-run=server"], capture_output=True, text=True, check=False)

    assert (done.returncode != 0) == bool(words), done.stderr
    assert words in done.stderr
