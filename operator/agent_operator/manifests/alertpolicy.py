"""What an AlertPolicy becomes: rules in a PrometheusRule or a ConfigMap, and an AlertmanagerConfig."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from slipway_monitoring.rules import Links, Selector, Slo, Thresholds, render

Object = dict[str, Any]

ANNOTATION = "slipway_policy"
"""On every alert: policy and digest of its rules. Prometheus reports it back, which tells a new rule from the one before."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "slipway-operator"}
POLICY_LABEL = "slipway.dev/alertpolicy"

CONTENT = ("spec", "data")
"""Where the kinds that are made hold what is made."""

_METRIC = re.compile(r"(?<![a-zA-Z0-9_:])([a-zA-Z_:][a-zA-Z0-9_:]*+)\{")
_UPPER = re.compile(r"(?<!^)(?=[A-Z])")


def thresholds_of(spec: Mapping[str, Any]) -> Thresholds:
    """Raises ValueError, with a line that names the field, for what the CRD let through and the rules do not take."""
    plain = {_UPPER.sub("_", name).lower(): value for name, value in spec.get("thresholds", {}).items()}
    if unknown := plain.keys() - Thresholds.__dataclass_fields__.keys():
        raise ValueError(f"spec.thresholds: there is no {', '.join(sorted(unknown))}")
    return Thresholds(
        **plain,
        tool_failure_ratio_by_tool={each["name"]: each["failureRatio"] for each in spec.get("tools", [])},
        http_error_ratio_by_route={each["path"]: each["errorRatio"] for each in spec.get("routes", [])},
        rate_limited_ratio_by_model={each["name"]: each["rateLimitedRatio"] for each in spec.get("models", [])},
    )


def groups_of(policy: Object) -> list[dict[str, Any]]:
    """Rule groups whose names are the policy's own and whose alerts carry ANNOTATION. Raises ValueError as `thresholds_of`."""
    spec, (namespace, name) = policy["spec"], _identity(policy)
    groups = render(
        thresholds_of(spec),
        selector=Selector(namespace=namespace, job=spec["release"]),
        links=Links(**spec.get("links", {})),
        slos=[Slo(each["indicator"], each["objective"]) for each in spec.get("objectives", [])],
        labels=spec.get("labels", {}),
        without=spec.get("disabledAlerts", []),
    )
    mark = {ANNOTATION: f"{namespace}/{name}@{_digest(groups)}"}
    for group in groups:
        group["name"] = f"{namespace}.{name}.{group['name']}"
        for rule in group["rules"]:
            rule["annotations"] = {**rule["annotations"], **mark}
    return groups


def mark_of(groups: list[dict[str, Any]]) -> str:
    """The ANNOTATION that these groups carry; empty when every alert is disabled."""
    return next((rule["annotations"][ANNOTATION] for group in groups for rule in group["rules"]), "")


def metrics_of(groups: list[dict[str, Any]]) -> set[str]:
    """Every metric that the rules read."""
    return {metric for group in groups for rule in group["rules"] for metric in _METRIC.findall(rule["expr"])}


def rules_object(policy: Object, groups: list[dict[str, Any]]) -> Object:
    """The PrometheusRule, or the ConfigMap with a rule file."""
    namespace, name = _identity(policy)
    if policy["spec"].get("output") == "ConfigMap":
        text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)
        return _owned(policy, "v1", "ConfigMap", {"data": {f"{namespace}-{name}.rules.yaml": text}})
    return _owned(policy, "monitoring.coreos.com/v1", "PrometheusRule", {"spec": {"groups": groups}})


def alertmanager_config(policy: Object) -> Object:
    """The release's alerts to `spec.receiver`."""
    receiver, (namespace, _) = policy["spec"]["receiver"], _identity(policy)
    matchers = [_equals("namespace", namespace), _equals("job", policy["spec"]["release"])]
    if severities := receiver.get("severities"):
        matchers.append({"name": "severity", "matchType": "=~", "value": "|".join(sorted(severities))})
    timing = {name: receiver[name] for name in ("groupWait", "groupInterval", "repeatInterval") if name in receiver}
    route = {"receiver": "slipway", "groupBy": ["namespace", "job", "alertname"], "matchers": matchers, **timing}
    spec = {"route": route, "receivers": [{"name": "slipway", **_receiver(receiver)}]}
    return _owned(policy, "monitoring.coreos.com/v1alpha1", "AlertmanagerConfig", {"spec": spec})


def receiver_secret(policy: Object) -> str | None:
    """The Secret that Alertmanager would read for this policy."""
    receiver = policy["spec"].get("receiver") or {}
    for block, entry in (("webhook", "urlSecret"), ("slack", "apiUrlSecret"), ("pagerDuty", "routingKeySecret")):
        if block in receiver:
            return str(receiver[block][entry]["name"])
    return None


def object_name(policy: Object) -> str:
    """Of everything that is made from the policy."""
    return f"{policy['metadata']['name']}-alertpolicy"


def is_owned(found: Object, policy: Object) -> bool:
    """Whether we made `found` for this very policy, not for one of its name that is gone."""
    owners = found["metadata"].get("ownerReferences", [])
    return any(owner.get("uid") == policy["metadata"]["uid"] for owner in owners)


def differs(found: Object, wanted: Object) -> bool:
    """Whether somebody changed what we wrote. Labels and annotations of others do not count."""
    have, want = found["metadata"].get("labels", {}), wanted["metadata"]["labels"]
    return any(found.get(part) != wanted.get(part) for part in CONTENT) or have | want != have


def _receiver(receiver: Mapping[str, Any]) -> dict[str, Any]:
    if webhook := receiver.get("webhook"):
        return {"webhookConfigs": [{"urlSecret": webhook["urlSecret"], "sendResolved": True}]}
    if slack := receiver.get("slack"):
        text = "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.runbook_url }}\n{{ end }}"
        config = {"channel": slack["channel"], "apiURL": slack["apiUrlSecret"], "sendResolved": True, "text": text}
        return {"slackConfigs": [config]}
    routing_key = receiver["pagerDuty"]["routingKeySecret"]
    severity = "{{ if .CommonLabels.severity }}{{ .CommonLabels.severity }}{{ else }}error{{ end }}"
    return {"pagerdutyConfigs": [{"routingKey": routing_key, "severity": severity, "sendResolved": True}]}


def _equals(name: str, value: str) -> dict[str, str]:
    return {"name": name, "matchType": "=", "value": value}


def _owned(policy: Object, api_version: str, kind: str, content: dict[str, Any]) -> Object:
    namespace, name = _identity(policy)
    owner = {"apiVersion": policy["apiVersion"], "kind": policy["kind"], "name": name, "uid": policy["metadata"]["uid"]}
    # The instance is what AgentHealth finds a release's rules by.
    own = {**MANAGED_BY, "app.kubernetes.io/instance": policy["spec"]["release"], POLICY_LABEL: name[:63].rstrip("-.")}
    labels = {**policy["spec"].get("outputLabels", {}), **own}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": object_name(policy),
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [{**owner, "controller": True}],
        },
        **content,
    }


def _digest(groups: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(groups, sort_keys=True).encode()).hexdigest()[:10]


def _identity(policy: Object) -> tuple[str, str]:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]
