"""The examples of k8s/gitops: complete, in order, and of what the charts and the API take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts import slipway
from tests.charts.operator import chart as operator
from tests.charts.test_api_schemas import CRD_GROUPS
from tests.support.charts import MINORS, Manifest, check_with_api, different, every, one

ROOT = Path(__file__).parents[2]
GITOPS = ROOT / "k8s" / "gitops"

CHARTS = {"charts/slipway": slipway.manifests, "charts/slipway-operator": operator.manifests}


def documents(path: Path) -> list[Manifest]:
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return [document for file in files for document in yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader)]


def releases(tool: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Chart and values of each release."""
    if tool == "argocd":
        for application in documents(GITOPS / "argocd"):
            source = application["spec"]["source"]
            if "helm" in source:
                yield source["path"], source["helm"]["valuesObject"]
    else:
        for release in every([*documents(GITOPS / "flux/operator"), *documents(GITOPS / "flux/agent")], "HelmRelease"):
            yield release["spec"]["chart"]["spec"]["chart"], release["spec"]["values"]


def rendered(tool: str) -> list[Manifest]:
    return [manifest for chart, values in releases(tool) for manifest in CHARTS[chart](values)]


def secrets_used(value: Any) -> Iterator[str]:
    """Names of Secrets, wherever a pod names them."""
    match value:
        case {"secretKeyRef": {"name": str(name)}} | {"secretRef": {"name": str(name)}} | {"secretName": str(name)}:
            yield name
        case {"secret": {"name": str(name)}} | {"imagePullSecrets": [{"name": str(name)}]}:
            yield name
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from secrets_used(part)


@pytest.mark.parametrize("tool", ["argocd", "flux"])
def test_both_charts_take_their_values_and_the_api_the_objects(tool: str) -> None:
    found = rendered(tool)
    own = different([found], CRD_GROUPS)

    assert sorted(chart for chart, _ in releases(tool)) == sorted(CHARTS)
    assert len(every(found, "Deployment")) == len(CHARTS)
    assert one(found, "AgentHealth")
    assert every(found, "StatefulSet") == [], "an example for production brings no evaluation database"
    assert every(found, "CustomResourceDefinition") == [], "they come before, by themselves"
    for minor in (MINORS[0], MINORS[-1]):
        check_with_api(own, minor)


@pytest.mark.parametrize("tool", ["argocd", "flux"])
def test_every_secret_that_a_pod_names_is_made(tool: str) -> None:
    made = {m["metadata"]["name"] for m in documents(GITOPS / "secrets") if m["kind"] == "ExternalSecret"}
    page = (GITOPS / "README.md").read_text(encoding="utf-8")
    used = set(secrets_used(rendered(tool)))

    assert used >= {"agent-database", "agent-model-key", "agent-api-keys"}
    assert ("agent-test-token" in used) == (tool == "flux")
    assert used <= made
    assert [name for name in made if f"| `{name}`" not in page] == []


def test_the_secrets_have_the_keys_that_the_pods_read() -> None:
    made = {m["metadata"]["name"]: m["spec"] for m in documents(GITOPS / "secrets") if m["kind"] == "ExternalSecret"}
    keys = {name: {entry["secretKey"] for entry in spec.get("data", ())} for name, spec in made.items()}

    assert keys == {
        "agent-database": {"url", "ca.crt"},
        "agent-model-key": {"current"},
        "agent-api-keys": set(),
        "agent-test-token": {"token"},
    }
    assert "dataFrom" in made["agent-api-keys"]
    check_with_api([m for m in documents(GITOPS / "secrets") if m["kind"] == "Namespace"], MINORS[-1])


def test_argo_cd_brings_crds_then_the_operator_and_secrets_then_the_agent() -> None:
    (root,) = documents(GITOPS / "argocd.yaml")
    applications = documents(ROOT / root["spec"]["source"]["path"])
    waves = {m["metadata"]["name"]: int(m["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for m in applications}

    assert waves["slipway-crds"] < waves["slipway-operator"] < waves["my-agent"]
    assert waves["my-agent-secrets"] < waves["my-agent"]
    for application in applications:
        assert (ROOT / application["spec"]["source"]["path"]).is_dir()
        assert application["spec"]["source"]["targetRevision"] == root["spec"]["source"]["targetRevision"]


def test_flux_brings_crds_then_the_operator_and_secrets_then_the_agent() -> None:
    (source, *kustomizations) = documents(GITOPS / "flux.yaml")
    needs = {m["metadata"]["name"]: {d["name"] for d in m["spec"].get("dependsOn", ())} for m in kustomizations}

    assert needs == {
        "slipway-crds": set(),
        "slipway-operator": {"slipway-crds"},
        "my-agent-secrets": set(),
        "my-agent": {"slipway-operator", "my-agent-secrets"},
    }
    for kustomization in kustomizations:
        spec = kustomization["spec"]
        assert spec["wait"], "or the next one begins at once"
        assert spec["sourceRef"] == {"kind": source["kind"], "name": source["metadata"]["name"]}
        assert documents(ROOT / spec["path"])


def test_no_tool_deletes_the_crds() -> None:
    (crds,) = (m for m in documents(GITOPS / "argocd") if m["metadata"]["name"] == "slipway-crds")
    (kustomization,) = (m for m in documents(GITOPS / "flux.yaml") if m["metadata"]["name"] == "slipway-crds")

    assert crds["spec"]["syncPolicy"]["automated"]["prune"] is False
    assert kustomization["spec"]["prune"] is False
    assert {m["kind"] for m in documents(ROOT / crds["spec"]["source"]["path"])} == {"CustomResourceDefinition"}
