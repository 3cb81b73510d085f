"""What an AlertPolicy becomes: rules in a PrometheusRule or a ConfigMap, and an AlertmanagerConfig."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Self

import yaml

from agent_operator.manifests.specs import AlertPolicySpec, Receiver, read_spec
from slipway_clients.cluster import Manifest
from slipway_monitoring.rules import Links, Selector, Slo, Thresholds, render

ANNOTATION = "slipway_policy"
"""On every alert: policy and digest of its rules. Prometheus reports it back, which tells a new rule from the one before."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "slipway-operator"}
POLICY_LABEL = "slipway.dev/alertpolicy"

CONTENT = ("spec", "data")
"""Where the kinds that are made hold what is made."""

_METRIC = re.compile(r"(?<![a-zA-Z0-9_:])([a-zA-Z_:][a-zA-Z0-9_:]*+)\{")
_UPPER = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Policy:
    """An AlertPolicy as it was read, with its spec as a value."""

    manifest: Manifest
    spec: AlertPolicySpec

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Raises WrongSpec."""
        return cls(manifest, read_spec(manifest, AlertPolicySpec))

    @property
    def namespace(self) -> str:
        """Of the policy and of all that is made from it."""
        return str(self.manifest["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Of the policy itself."""
        return str(self.manifest["metadata"]["name"])

    @property
    def object_name(self) -> str:
        """Of everything that is made from the policy."""
        return f"{self.name}-alertpolicy"


def thresholds_of(spec: AlertPolicySpec) -> Thresholds:
    """Raises ValueError, with a line that names the field, for what the CRD let through and the rules do not take."""
    plain = {_UPPER.sub("_", name).lower(): value for name, value in spec.thresholds.items()}
    if unknown := plain.keys() - Thresholds.__dataclass_fields__.keys():
        raise ValueError(f"spec.thresholds: there is no {', '.join(sorted(unknown))}")
    return Thresholds(
        **plain,
        tool_failure_ratio_by_tool={each.name: each.ratio for each in spec.tools},
        http_error_ratio_by_route={each.path: each.ratio for each in spec.routes},
        rate_limited_ratio_by_model={each.name: each.ratio for each in spec.models},
    )


def groups_of(policy: Policy, *, runbooks: str = "") -> list[dict[str, Any]]:
    """Rule groups whose names are the policy's own and whose alerts carry ANNOTATION. Raises ValueError as `thresholds_of`.

    `runbooks`: where they are served, unless the policy says it.
    """
    spec, namespace, name = policy.spec, policy.namespace, policy.name
    groups = render(
        thresholds_of(spec),
        selector=Selector(namespace=namespace, job=spec.release),
        links=Links(**{"runbooks": runbooks, **(spec.links.model_dump(exclude_none=True) if spec.links else {})}),
        slos=[Slo(each.indicator, each.objective) for each in spec.objectives],
        labels=spec.labels,
        without=spec.disabled,
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


def rules_object(policy: Policy, groups: list[dict[str, Any]]) -> Manifest:
    """The PrometheusRule, or the ConfigMap with a rule file."""
    if policy.spec.output == "ConfigMap":
        text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000)
        return _owned(policy, "v1", "ConfigMap", {"data": {f"{policy.namespace}-{policy.name}.rules.yaml": text}})
    return _owned(policy, "monitoring.coreos.com/v1", "PrometheusRule", {"spec": {"groups": groups}})


def alertmanager_config(policy: Policy, receiver: Receiver) -> Manifest:
    """The release's alerts to the receiver."""
    matchers = [_equals("namespace", policy.namespace), _equals("job", policy.spec.release)]
    if receiver.severities:
        matchers.append({"name": "severity", "matchType": "=~", "value": "|".join(sorted(receiver.severities))})
    timing = receiver.model_dump(by_alias=True, exclude_unset=True, include={"group_wait", "group_interval", "repeat_interval"})
    route = {"receiver": "slipway", "groupBy": ["namespace", "job", "alertname"], "matchers": matchers, **timing}
    spec = {"route": route, "receivers": [{"name": "slipway", **_receiver(receiver)}]}
    return _owned(policy, "monitoring.coreos.com/v1alpha1", "AlertmanagerConfig", {"spec": spec})


def is_owned(found: Manifest, policy: Policy) -> bool:
    """Whether we made `found` for this very policy, not for one of its name that is gone."""
    owners = found["metadata"].get("ownerReferences", [])
    return any(owner.get("uid") == policy.manifest["metadata"]["uid"] for owner in owners)


def differs(found: Manifest, wanted: Manifest) -> bool:
    """Whether somebody changed what we wrote. Labels and annotations of others do not count."""
    have, want = found["metadata"].get("labels", {}), wanted["metadata"]["labels"]
    return any(found.get(part) != wanted.get(part) for part in CONTENT) or have | want != have


def _receiver(receiver: Receiver) -> dict[str, Any]:
    secret = receiver.secret.model_dump()
    if receiver.webhook:
        return {"webhookConfigs": [{"urlSecret": secret, "sendResolved": True}]}
    if receiver.slack:
        text = "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ or .Annotations.runbook_url .Annotations.runbook }}\n{{ end }}"
        config = {"channel": receiver.slack.channel, "apiURL": secret, "sendResolved": True, "text": text}
        return {"slackConfigs": [config]}
    severity = "{{ if .CommonLabels.severity }}{{ .CommonLabels.severity }}{{ else }}error{{ end }}"
    return {"pagerdutyConfigs": [{"routingKey": secret, "severity": severity, "sendResolved": True}]}


def _equals(name: str, value: str) -> dict[str, str]:
    return {"name": name, "matchType": "=", "value": value}


def _owned(policy: Policy, api_version: str, kind: str, content: dict[str, Any]) -> Manifest:
    manifest, name = policy.manifest, policy.name
    owner = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "name": name, "uid": manifest["metadata"]["uid"]}
    # The instance is what AgentHealth finds a release's rules by.
    own = {**MANAGED_BY, "app.kubernetes.io/instance": policy.spec.release, POLICY_LABEL: name[:63].rstrip("-.")}
    labels = {**policy.spec.output_labels, **own}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": policy.object_name,
            "namespace": policy.namespace,
            "labels": labels,
            "ownerReferences": [{**owner, "controller": True}],
        },
        **content,
    }


def _digest(groups: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(groups, sort_keys=True).encode()).hexdigest()[:10]
