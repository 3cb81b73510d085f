"""Objects of our three kinds with every field filled in, and what a stranger would write into one of them."""

import copy
from collections.abc import Iterator
from typing import Any

SELECTOR = {"matchLabels": {"app.kubernetes.io/instance": "my-agent"}}
ROTATION = {
    "target": {"secretName": "model-key"},
    "consumers": {"selector": SELECTOR, "opsPort": 9090, "minPods": 1},
    "schedule": {
        "cron": "0 3 1 * *",
        "timeZone": "Europe/Berlin",
        "jitter": "5m",
        "deny": [{"days": ["Sat"], "start": "01:00", "end": "02:00"}],
    },
    "overlap": "10m",
    "deadline": "15m",
    "emergency": {"confirmTimeout": "2m"},
    "deletionPolicy": "Retain",
}
OPENAI = {
    "projectID": "proj_1",
    "adminKey": {"secretName": "openai-admin", "key": "admin-key"},
    "mode": "KeyPerRevision",
    "serviceAccountID": "svc_acct_1",
    "scopes": ["model.request"],
    "keyLifetime": "240h",
}
VERIFY = {"url": "https://api.openai.com/v1/models", "timeout": "1m"}
API_KEY = {"recordsSecretName": "api-keys", "user": "billing", "tenant": "default", "role": "user"}

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("KeyRotation", {**ROTATION, "provider": {"openAI": OPENAI}, "verify": VERIFY}),
    ("KeyRotation", {**ROTATION, "provider": {"pool": {"secretName": "pool"}}, "verify": VERIFY}),
    ("KeyRotation", {**ROTATION, "provider": {"generated": {"kind": "APIKey", "apiKey": API_KEY}}}),
    ("KeyRotation", {**ROTATION, "provider": {"generated": {"kind": "JWTSecret"}}}),
    (
        "AlertPolicy",
        {
            "release": "demo",
            "thresholds": {"turnSeconds": 30, "dailyBudgetUsd": 100, "budgetRatio": 0.5},
            "tools": [{"name": "rag_search", "failureRatio": 0.3}],
            "routes": [{"path": "/runs/{run_id}/stream", "errorRatio": 0.02}],
            "models": [{"name": "gpt-4.1-mini", "rateLimitedRatio": 0.2}],
            "objectives": [{"indicator": "latency", "objective": 0.99}],
            "disabledAlerts": ["AgentCostHigh"],
            "labels": {"team": "ai"},
            "links": {"runbooks": "https://docs.example/r?x=1", "grafana": "https://grafana.example"},
            "output": "PrometheusRule",
            "outputLabels": {"release": "prometheus", "monitoring.example/kind": "rules"},
            "prometheus": {"url": "http://prometheus.monitoring:9090/base"},
            "receiver": {
                "slack": {"channel": "#agents", "apiUrlSecret": {"name": "slack", "key": "url"}},
                "severities": ["critical"],
                "groupWait": "10s",
                "groupInterval": "10s",
                "repeatInterval": "4h",
            },
        },
    ),
    ("AlertPolicy", {"release": "demo", "receiver": {"webhook": {"urlSecret": {"name": "hook", "key": "url"}}}}),
    ("AlertPolicy", {"release": "demo", "receiver": {"pagerDuty": {"routingKeySecret": {"name": "pager", "key": "key"}}}}),
    (
        "AgentHealth",
        {
            "release": "demo",
            "prometheus": {"url": "http://prometheus.monitoring:9090"},
            "rollout": {"version": "2.0.1", "baseline": "stable"},
            "limits": {"p99Seconds": 30, "errorRatio": 0.05, "keyAgeDays": 90, "minReplicas": 2},
            "accepted": [{"condition": "DatabaseExternal", "because": "staging"}],
        },
    ),
]

HOSTILE_TEXTS = [
    "../../victim/secrets/db",
    "..",
    "/etc/passwd",
    "%2e%2e%2fvictim%2fsecrets%2fdb",
    "victim/db",
    "db?namespace=victim",
    "db#x",
    'x",job=~".*',
    'x"} or vector(1) #',
    "x,app=victim",
    "app in (victim)",
    '{{ query "secret" }}',
    "a\nb",
    "a\x00b",
    "a\r\nAuthorization: Bearer x",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://2852039166/",
    "http://user:secret@victim",
    "https://api.openai.com@evil.test/",
    "http://evil.test/\\@api.openai.com",
    "file:///etc/shadow",
    "kubernetes.default.svc/api/v1/secrets",
    "ünï",
    "a" * 5000,
    "",
]
HOSTILE_VALUES: list[Any] = [*HOSTILE_TEXTS, None, 7, True, ["a"], {"a": "b"}, 1e308, -1, 10**30]


def fields(spec: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a spec that is no block, and to every name of a free map."""
    if isinstance(spec, dict):
        for name, inner in spec.items():
            yield from fields(inner, (*where, name))
    elif isinstance(spec, list):
        for number, inner in enumerate(spec):
            yield from fields(inner, (*where, number))
    else:
        yield where


def with_value(spec: dict[str, Any], where: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(spec)
    block: Any = changed
    for step in where[:-1]:
        block = block[step]
    block[where[-1]] = value
    return changed


def hostile() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, what was written where, and the spec: every field of every good object with every hostile value."""
    for kind, good in GOOD:
        for where in fields(good):
            for value in HOSTILE_VALUES:
                yield kind, f"{'.'.join(map(str, where))}={value!r:.60}", with_value(good, where, value)
        for where in (("labels",), ("outputLabels",), ("consumers", "selector", "matchLabels")):
            block: Any = good
            for step in where:
                block = block.get(step, {}) if isinstance(block, dict) else {}
            if block:
                for name in HOSTILE_TEXTS:
                    yield kind, f"{'.'.join(where)} named {name!r:.60}", with_value(good, where, {name: "x"})
